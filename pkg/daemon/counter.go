package daemon

import "sync/atomic"

// counter only grows.
type counter struct{ n atomic.Uint64 }

func (c *counter) add()        { c.n.Add(1) }
func (c *counter) get() uint64 { return c.n.Load() }
