package rdv

import "container/list"

// requests holds the connections of a server that have not been upgraded yet,
// the oldest first. Its owner bounds them: a request takes a round trip, so
// that of too many the oldest is the one that is least likely to become one.
// It is not safe for concurrent use.
type requests[T comparable] struct {
	order list.List
	elems map[T]*list.Element
}

func (r *requests[T]) add(c T) {
	if r.elems == nil {
		r.elems = make(map[T]*list.Element)
	}
	if _, ok := r.elems[c]; !ok {
		r.elems[c] = r.order.PushBack(c)
	}
}

func (r *requests[T]) remove(c T) {
	if e, ok := r.elems[c]; ok {
		delete(r.elems, c)
		r.order.Remove(e)
	}
}

// evict removes the oldest, if there is one.
func (r *requests[T]) evict() (c T, ok bool) {
	e := r.order.Front()
	if e == nil {
		return c, false
	}
	c, ok = e.Value.(T)
	r.remove(c)
	return c, ok
}

func (r *requests[T]) len() int { return len(r.elems) }
