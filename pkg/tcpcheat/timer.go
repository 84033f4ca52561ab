package tcpcheat

// timers is a binary heap of connections by deadline. A deadline that moves
// later stays where it is: the connection wakes, finds nothing to do and is
// put back, which is cheaper than moving it with every packet.
type timers []*conn

func (h *timers) schedule(c *conn, at instant) {
	switch {
	case at == never:
		return
	case c.heap < 0:
		c.due, c.heap = at, len(*h)
		*h = append(*h, c)
		h.up(c.heap)
	case at < c.due:
		c.due = at
		h.up(c.heap)
	}
}

func (h *timers) remove(c *conn) {
	i := c.heap
	if i < 0 {
		return
	}
	c.heap = -1
	last := len(*h) - 1
	moved := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	if i == last {
		return
	}
	(*h)[i], moved.heap = moved, i
	h.up(i)
	h.down(moved.heap)
}

func (h timers) up(i int) {
	for i > 0 {
		p := (i - 1) / 2
		if h[p].due <= h[i].due {
			return
		}
		h.swap(i, p)
		i = p
	}
}

func (h timers) down(i int) {
	for {
		k := 2*i + 1
		if k >= len(h) {
			return
		}
		if k+1 < len(h) && h[k+1].due < h[k].due {
			k++
		}
		if h[i].due <= h[k].due {
			return
		}
		h.swap(i, k)
		i = k
	}
}

func (h timers) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heap, h[j].heap = i, j
}
