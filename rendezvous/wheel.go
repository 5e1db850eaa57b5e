package rendezvous

// A wheel holds entries by the second in which they expire: adding, moving
// and removing one costs O(1), and expiring costs O(what has expired).
type wheel struct {
	seconds map[int64]*entry // the head of a list through next and prev
	cursor  int64            // all seconds before it are done
}

const wheelTick = int64(1e9) // a second, in the nanoseconds of entry.deadline

func (w *wheel) add(e *entry) {
	// What has expired already goes to the second that is looked at next.
	s := max(e.deadline/wheelTick, w.cursor)
	e.second = s
	e.prev, e.next = nil, w.seconds[s]
	if e.next != nil {
		e.next.prev = e
	}
	w.seconds[s] = e
}

func (w *wheel) remove(e *entry) {
	if e.next != nil {
		e.next.prev = e.prev
	}
	switch {
	case e.prev != nil:
		e.prev.next = e.next
	case e.next != nil:
		w.seconds[e.second] = e.next
	default:
		delete(w.seconds, e.second)
	}
	e.prev, e.next = nil, nil
}

// due returns an entry of a second that is wholly past, or nil. It looks at
// each second once: 72 hours of them take milliseconds.
func (w *wheel) due(now int64) *entry {
	end := now / wheelTick
	if len(w.seconds) == 0 {
		w.cursor = max(w.cursor, end)
	}
	for ; w.cursor < end; w.cursor++ {
		if e := w.seconds[w.cursor]; e != nil {
			return e
		}
	}
	return nil
}

// dueNow returns what has expired in the second that is not over yet, of the
// first most entries of it.
func (w *wheel) dueNow(now int64, most int) (due []*entry) {
	for e := w.seconds[now/wheelTick]; e != nil && most > 0; e = e.next {
		if e.deadline <= now {
			due = append(due, e)
		}
		most--
	}
	return due
}
