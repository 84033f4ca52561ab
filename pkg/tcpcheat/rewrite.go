package tcpcheat

import (
	"encoding/binary"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// edit changes a TCP header in place and keeps its checksum right. The sum is
// updated incrementally (RFC 1624), so a segment that was damaged on its way
// stays damaged and its receiver sees it; only where the kernel has left the
// sum to the device is it computed in full (tcp.md 0.4).
func edit(v packet.View, meta Meta, change func(packet.TCP)) {
	t := v.TCP()
	if meta.CsumNotReady {
		change(t)
		v.SetTCPChecksum()
		return
	}
	check := t.Checksum()
	head := t[:t.HeaderLen()]
	t.SetChecksum(0)
	sum := uint64(^check)
	for i := 0; i < len(head); i += 2 {
		sum += uint64(^binary.BigEndian.Uint16(head[i:]))
	}
	change(t)
	for i := 0; i < len(head); i += 2 {
		sum += uint64(binary.BigEndian.Uint16(head[i:]))
	}
	t.SetChecksum(packet.Fold(sum))
}

// setWindow is edit for the window alone.
func setWindow(v packet.View, meta Meta, win uint16) {
	t := v.TCP()
	old := t.Window()
	t.SetWindow(win)
	if meta.CsumNotReady {
		v.SetTCPChecksum()
		return
	}
	t.SetChecksum(packet.Update16(t.Checksum(), old, win))
}

// blankSACK replaces SACK options by NOPs: the header keeps its length and its
// alignment, and the source sees no block below or beside an acknowledgement
// that was raised (tcp.md 2.5).
func blankSACK(t packet.TCP) {
	b := t.Options()
	for i := 0; i < len(b); {
		switch kind := b[i]; kind {
		case packet.OptEnd:
			return
		case packet.OptNop:
			i++
		default:
			if i+1 >= len(b) || b[i+1] < 2 || i+int(b[i+1]) > len(b) {
				return
			}
			n := int(b[i+1])
			if kind == packet.OptSACK {
				for j := i; j < i+n; j++ {
					b[j] = packet.OptNop
				}
			}
			i += n
		}
	}
}

// setTSecr writes the echoed time stamp, where there is one.
func setTSecr(t packet.TCP, ecr uint32) {
	b := t.Options()
	if o, _ := packet.ParseOptions(b); o.HasTimestamps {
		binary.BigEndian.PutUint32(b[o.TSOffset+6:], ecr)
	}
}

// raise rewrites a segment of the receiver that goes on to the source: its
// acknowledgement is never below what the source was given already, its window
// is the engine's, and recovery is not the source's business.
func (e *Engine) raise(c *conn, v packet.View, meta Meta, ack packet.Seq) Action {
	// It says all that could be said now, so that no fake ACK overtakes it.
	e.progress(c)
	ack = packet.MaxSeq(ack, c.target(e.now))
	win, edge := c.window(ack, e.pool.room())
	ece := c.ch.ece
	reliable := c.ch.Mode == Reliable
	ecr, echo := uint32(0), c.ts && ack.After(v.TCP().Ack())
	if echo {
		// The source measures by it what the acknowledgement claims, and
		// judges its retransmissions (RFC 7323 section 4.1, RFC 3522).
		ecr = c.echo(ack)
	}
	c.ch.lastWin = win
	c.ch.fakes++
	edit(v, meta, func(t packet.TCP) {
		t.SetAck(ack)
		t.SetWindow(win)
		flags := t.Flags()
		if reliable {
			flags &^= packet.FlagECE // the receiver's leg is the engine's
		}
		if ece {
			flags |= packet.FlagECE
		}
		t.SetFlags(flags)
		blankSACK(t)
		if echo {
			setTSecr(t, ecr)
		}
	})
	c.passed = packet.MaxSeq(c.passed, ack)
	c.offered = packet.MaxSeq(c.offered, edge)
	c.ch.pend.trim(c.passed)
	c.ch.ackNow, c.ch.reack = false, false
	c.stats.Rewritten++
	e.totals.Rewritten++
	return Modified
}
