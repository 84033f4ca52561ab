package tcpcheat

// chunkSize is the unit in which memory is taken and given back.
const chunkSize = 8 << 10

type chunk [chunkSize]byte

// pool hands out chunks up to a limit. What was given back is kept: the memory
// of an engine is its highest use, never more than the limit.
type pool struct {
	free []*chunk
	made int // chunks that exist
	max  int
}

func (p *pool) get() *chunk {
	if n := len(p.free); n > 0 {
		c := p.free[n-1]
		p.free = p.free[:n-1]
		return c
	}
	if p.made >= p.max {
		return nil
	}
	p.made++
	return new(chunk)
}

func (p *pool) put(c *chunk) { p.free = append(p.free, c) }

// used is how many bytes of chunks are in hand.
func (p *pool) used() int { return (p.made - len(p.free)) * chunkSize }

// room is how many bytes of chunks can still be had.
func (p *pool) room() int { return p.max*chunkSize - p.used() }
