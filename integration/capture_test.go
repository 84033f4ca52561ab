package integration

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// capture records the frames of an interface until the test ends.
func capture(t *testing.T, ns *netns.NetNS, iface string, filter func([]byte) bool) *traffic.Capture {
	t.Helper()
	c, err := traffic.StartCapture(ns, iface, filter)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// captured is all that a capture has had until now. The test ends if that is not all
// that there was: it would judge what it has not seen.
func captured(t *testing.T, c *traffic.Capture) []traffic.Frame {
	t.Helper()
	list, err := c.Frames()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

const ethernet = 14

func isIPv4(f []byte) bool { return len(f) >= ethernet+20 && f[12] == 8 && f[13] == 0 }
func isIPv6(f []byte) bool { return len(f) >= ethernet+40 && f[12] == 0x86 && f[13] == 0xdd }

func isRSVP(f []byte) bool { return isIPv4(f) && f[ethernet+9] == 46 }

// isRSVP6 takes the fragments of messages too.
func isRSVP6(f []byte) bool {
	if !isIPv6(f) {
		return false
	}
	v, err := packet.Parse(f[ethernet:])
	return err == nil && v.Proto() == packet.ProtoRSVP
}

// toPort accepts TCP or UDP frames to a port, over either IP version without options.
func toPort(port uint16) func([]byte) bool {
	return func(f []byte) bool {
		switch {
		case isIPv4(f) && len(f) >= ethernet+24:
			header := int(f[ethernet]&15) * 4
			first := binary.BigEndian.Uint16(f[ethernet+6:])&0x1fff == 0
			proto := f[ethernet+9]
			return (proto == 6 || proto == 17) && first && len(f) >= ethernet+header+4 &&
				binary.BigEndian.Uint16(f[ethernet+header+2:]) == port
		case isIPv6(f) && len(f) >= ethernet+44:
			return (f[ethernet+6] == 6 || f[ethernet+6] == 17) && binary.BigEndian.Uint16(f[ethernet+42:]) == port
		}
		return false
	}
}

// tos returns the type-of-service byte or traffic class.
func tos(f []byte) byte {
	if isIPv6(f) {
		return byte(binary.BigEndian.Uint16(f[ethernet:]) >> 4)
	}
	return f[ethernet+1]
}

func dscpOf(f []byte) byte { return tos(f) >> 2 }

// message decodes a captured RSVP message.
func message(f []byte) (*wire.Message, error) {
	v, err := packet.Parse(f[ethernet:])
	if err != nil || v.Fragment() {
		return nil, fmt.Errorf("frame of %d bytes, fragment %v: %w", len(f), v.Fragment(), err)
	}
	return wire.Parse(v.Transport())
}

// waitMessage waits for a message of a type and returns its frame too.
func waitMessage(t *testing.T, c *traffic.Capture, kind wire.MsgType) (*wire.Message, []byte) {
	t.Helper()
	ctx, cancel := rig.Within(t.Context(), 8*time.Second)
	defer cancel()
	var found *wire.Message
	frame, err := c.Wait(ctx, func(f traffic.Frame) bool {
		m, err := message(f.Data)
		if err != nil || m.Type != kind {
			return false
		}
		found = m
		return true
	})
	if err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	return found, frame.Data
}

// checkUnaware holds what came to a host that does not speak RSVP to what may
// (RFC 5946 section 4.1): PATH, no more often than once in half of the refresh
// period, which is a second, and PathTear, in the words of RFC 2205 alone.
func checkUnaware(t *testing.T, name string, c *traffic.Capture) {
	t.Helper()
	frames := captured(t, c)
	type span struct {
		paths       int
		first, last time.Time
	}
	heard := map[wire.Session]*span{}
	for _, f := range frames {
		m, err := message(f.Data) // which knows no RFC 2961
		switch {
		case err != nil:
			t.Errorf("an RSVP message came to %s: %v", name, err)
		case m.Type == wire.Path:
			s := heard[m.Session.Key()]
			if s == nil {
				s = &span{first: f.At}
				heard[m.Session.Key()] = s
			}
			s.paths, s.last = s.paths+1, f.At
		case m.Type != wire.PathTear:
			t.Errorf("%s came to %s", m.Type, name)
		}
	}
	if len(heard) == 0 {
		t.Errorf("no PATH came to %s", name)
	}
	for session, s := range heard { // one beside the refreshes is due to each change
		if most := 4 + int(2*s.last.Sub(s.first).Seconds()); s.paths > most {
			t.Errorf("%d times in %v PATH of %v came to %s", s.paths, s.last.Sub(s.first), session, name)
		}
	}
}

// waitFrame waits for a frame that is as wanted.
func waitFrame(t *testing.T, c *traffic.Capture, what string, want func([]byte) bool) []byte {
	t.Helper()
	ctx, cancel := rig.Within(t.Context(), 8*time.Second)
	defer cancel()
	frame, err := c.Wait(ctx, func(f traffic.Frame) bool { return want(f.Data) })
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return frame.Data
}

// frameAfter accepts frames from a time on.
func frameAfter(from time.Time, want func([]byte) bool) func(traffic.Frame) bool {
	return func(f traffic.Frame) bool { return f.At.After(from) && want(f.Data) }
}
