package enr

import "unsafe"

// A Cache parses records and remembers those that verified by their bytes:
// in a DHT the same few records come again and again, and a signature check
// costs two hundred times as much as a lookup here. It holds between size
// and twice size records in two generations, so a flood of new records
// displaces what is not in use and never grows it. It is not safe for
// concurrent use.
type Cache struct {
	size     int
	new, old map[string]*Record // by their bytes
}

// NewCache returns a cache for size to 2*size records.
func NewCache(size int) *Cache { return &Cache{size: max(size, 1)} }

// Get returns the record with these bytes if it verified before.
func (c *Cache) Get(b []byte) (*Record, bool) {
	if r, ok := c.new[string(b)]; ok {
		return r, true
	}
	r, ok := c.old[string(b)]
	if ok {
		c.Add(r)
	}
	return r, ok
}

// Add remembers r.
func (c *Cache) Add(r *Record) {
	if len(c.new) >= c.size {
		c.old, c.new = c.new, nil
	}
	if c.new == nil {
		c.new = make(map[string]*Record)
	}
	// The key shares the record's bytes, which never change.
	c.new[unsafe.String(unsafe.SliceData(r.raw), len(r.raw))] = r
}

// Parse is [Parse] with the cache asked first.
func (c *Cache) Parse(b []byte) (*Record, error) {
	if r, ok := c.Get(b); ok {
		return r, nil
	}
	r, err := Parse(b)
	if err != nil {
		return nil, err
	}
	c.Add(r)
	return r, nil
}

// Len returns how many records are held.
func (c *Cache) Len() int { return len(c.new) + len(c.old) }
