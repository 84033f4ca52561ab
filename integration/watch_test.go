package integration

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/roottest"
	rsvp "github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// watch records every RSVP message that the boxes send by some interfaces. At
// the end of the test an implementation that is not ours has to understand all
// of them.
func (l *lab) watch(t *testing.T, interfaces ...string) {
	t.Helper()
	tshark := roottest.Tool(t, "tshark")
	var taps []*traffic.Capture
	for _, b := range l.boxes {
		for _, name := range interfaces {
			if !b.ns.Has(name) {
				continue
			}
			mac, err := b.ns.HardwareAddr(name)
			if err != nil {
				t.Fatal(err)
			}
			bridge := l.isBridge(b.number) // whose messages have the hosts' Ethernet addresses
			c, err := traffic.StartCapture(b.ns, name, func(f []byte) bool {
				return (bridge || bytes.Equal(f[6:12], mac)) && anyRSVP(outOfTunnel(f))
			})
			if err != nil {
				t.Fatal(err)
			}
			taps = append(taps, c)
		}
	}
	t.Cleanup(func() {
		var sent []traffic.Frame
		for _, c := range taps {
			closeErr := c.Close()
			frames, err := c.Frames()
			if err := errors.Join(closeErr, err); err != nil {
				t.Error(err)
			}
			for _, f := range frames {
				if f.Outgoing {
					sent = append(sent, f)
				}
			}
		}
		if len(sent) == 0 {
			t.Error("no box sent any RSVP message")
			return
		}
		foreign := 0
		for i, f := range sent {
			sent[i].Data = outOfTunnel(f.Data)
			if m, err := anyMessage(sent[i].Data); isIPv4(f.Data) && err == nil && m.Session.Format != rsvp.FormatPorts {
				foreign++
			}
		}
		for _, f := range sent { // a Bundle's own, which tshark does not verify, too
			if packet.Checksum(payloadOf(f.Data)) != 0 {
				t.Errorf("wrong checksum in % x", f.Data)
			}
		}
		slices.SortStableFunc(sent, func(a, b traffic.Frame) int { return a.At.Compare(b.At) })
		file := filepath.Join(t.TempDir(), "sent.pcap")
		writePcap(t, file, sent)
		t.Logf("%d messages sent, all read by tshark: %v", len(sent), readByTshark(t, tshark, file, len(sent), foreign))
	})
}

// outOfTunnel takes the packet out of one of IP in IP of the same family, if it is
// in one.
func outOfTunnel(f []byte) []byte {
	header := 40
	switch {
	case isIPv4(f) && f[ethernet+9] == 4:
		header = int(f[ethernet]&15) * 4
	case isIPv6(f) && f[ethernet+6] == 41:
	default:
		return f
	}
	return slices.Concat(f[:ethernet], f[min(ethernet+header, len(f)):])
}

// anyRSVP accepts RSVP over IPv4 and IPv6, there behind a hop-by-hop header
// with Router Alert too.
func anyRSVP(f []byte) bool {
	switch {
	case isIPv4(f):
		return f[ethernet+9] == 46
	case isIPv6(f):
		return f[ethernet+6] == 46 || f[ethernet+6] == 0 && f[ethernet+40] == 46
	}
	return false
}
