package tcpcheat

import (
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// PRTT, the round trip between the box and the source, is measured from what
// passes: the handshake, and time stamps. Where neither gives it (the source's SYN
// was sent twice, and there are no time stamps; or the connection was picked up
// in the middle) the engine asks for an ICMP echo of the source. What an echo
// says counts only until something better is known: hosts answer it
// in their own time, and networks treat it in their own way.
const (
	maxEchoes = 3
	// echoPatience is how long time stamps have to show the round trip, and
	// after how long an echo counts as lost the first time.
	echoPatience = time.Second
	// maxAsked bounds what waits for a shell that does not take it.
	maxAsked = 1024
)

// Echo is a wish for the round trip to the source of a connection.
type Echo struct {
	Key    packet.FlowKey // direction of the data: the source is Src
	Serial uint64         // of the connection
}

// asking is what was asked for a connection.
type asking struct {
	wanted bool // Params allow it
	at     instant
	n      int
}

// setEcho takes over from Params whether the source may be asked.
func (e *Engine) setEcho(c *conn, wanted bool) {
	if wanted && !c.ask.wanted && c.ask.n == 0 {
		c.ask.at = e.now
		if c.ts {
			c.ask.at += echoPatience
		}
	}
	c.ask.wanted = wanted
}

// askAt is when the source is to be asked.
func (c *conn) askAt() instant {
	if !c.ask.wanted || !c.treated() || c.rttSrc.smooth > 0 || c.ask.n >= maxEchoes {
		return never
	}
	return c.ask.at
}

// askSource asks if it is time.
func (e *Engine) askSource(c *conn) {
	if e.now < c.askAt() {
		return
	}
	c.ask.at = e.now + echoPatience<<c.ask.n
	c.ask.n++
	if c.serial == 0 {
		e.serial++
		c.serial = e.serial
	}
	if len(e.echoes) < maxAsked {
		e.echoes = append(e.echoes, Echo{Key: c.key, Serial: c.serial})
	}
}

// TakeEchoes gives the wishes since the last call. They are valid until the next
// call of the engine.
func (e *Engine) TakeEchoes() []Echo {
	got := e.echoes
	e.echoes = e.echoes[:0]
	return got
}

// Echoed tells the round trip that an echo has shown.
func (e *Engine) Echoed(now time.Time, q Echo, d time.Duration) {
	e.tick(now)
	c := e.find(q.Key)
	if c == nil || c.key != q.Key || c.serial != q.Serial || c.rttSrc.smooth > 0 {
		return // another connection by now, or something better is known
	}
	c.rttSrc.sample(d)
	c.rttSrc.borrowed = true
	e.pump(c)
}
