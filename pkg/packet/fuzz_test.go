package packet

import (
	"encoding/binary"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// FuzzParse: no input runs an accessor out of bounds, and what gopacket reads
// from a packet that both accept is what we read.
func FuzzParse(f *testing.F) {
	for _, k := range []FlowKey{key4, key6} {
		f.Add(sample(k, 0))
		f.Add(sample(k, 33))
		f.Add(sample(k, 33)[:50])
	}
	frag := sample(key4, 20)
	frag[6] = 0x20
	f.Add(frag)
	ext := sample(key6, 20)
	ext[6] = ProtoDestOpts
	f.Add(ext)
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Parse(b)
		if err != nil {
			return
		}
		_ = v.Key().String()
		_, _, _, _, _ = v.TTL(), v.TOS(), v.ID(), v.DF(), v.FlowLabel()
		if len(v.Header())+len(v.Transport()) != v.Len() || v.Len() > len(b) {
			t.Fatal("parts and whole differ")
		}
		if !v.IsTCP() {
			return
		}
		tc := v.TCP()
		if len(tc.Options())+20 != tc.HeaderLen() || len(tc.Payload())+tc.HeaderLen() != len(tc) {
			t.Fatal("TCP parts and whole differ")
		}
		compare(t, b, v)
		v.SetTCPChecksum()
		if !v.TCPChecksumOK() {
			t.Fatal("checksum that was set is not right")
		}
	})
}

// compare holds a plain TCP packet against gopacket.
func compare(t *testing.T, b []byte, v View) {
	first := layers.LayerTypeIPv4
	if !v.Is4() {
		if b[6] != ProtoTCP {
			return // gopacket reads extension headers in its own way
		}
		first = layers.LayerTypeIPv6
	} else if binary.BigEndian.Uint16(b[2:]) == 0 {
		return // BIG TCP: gopacket has another rule for it
	}
	p := gopacket.NewPacket(b, first, gopacket.NoCopy)
	l := p.Layer(layers.LayerTypeTCP)
	if l == nil || p.ErrorLayer() != nil {
		return
	}
	g := l.(*layers.TCP)
	tc := v.TCP()
	if uint16(g.SrcPort) != tc.SrcPort() || uint16(g.DstPort) != tc.DstPort() || g.Seq != uint32(tc.Seq()) ||
		g.Ack != uint32(tc.Ack()) || g.Window != tc.Window() || g.SYN != tc.Has(FlagSYN) || g.FIN != tc.Has(FlagFIN) ||
		g.RST != tc.Has(FlagRST) || g.ACK != tc.Has(FlagACK) || g.URG != tc.Has(FlagURG) || g.Urgent != tc.Urgent() ||
		len(g.Payload) != len(tc.Payload()) {
		t.Fatalf("gopacket reads %+v", g)
	}
}

// FuzzParseOptions: bounds, and agreement with a walk written differently.
func FuzzParseOptions(f *testing.F) {
	f.Add([]byte{2, 4, 5, 180, 1, 3, 3, 7, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2})
	f.Add(AppendSACK(nil, []SACKBlock{{1, 2}, {3, 4}, {5, 6}}, 40))
	f.Add([]byte{8, 10, 1})
	f.Add([]byte{254, 4, 0xf9, 0x89, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		o, ok := ParseOptions(b)
		if o.NSACK > len(o.SACK) || o.WindowScale > 14 || o.HasTimestamps != (o.TSOffset >= 0) {
			t.Fatalf("%+v", o)
		}
		if o.HasTimestamps && binary.BigEndian.Uint32(b[o.TSOffset+2:]) != o.TSVal {
			t.Fatal("TSOffset is not where the option is")
		}
		if ok != wellFormed(b) {
			t.Fatalf("ok %v", ok)
		}
	})
}

func wellFormed(b []byte) bool {
	fixed := map[byte][]int{OptMSS: {4}, OptWindowScale: {3}, OptTimestamps: {10}, OptSACK: {2, 10, 18, 26, 34}}
	for len(b) > 0 && b[0] != OptEnd {
		if b[0] == OptNop {
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			return false
		}
		if want, known := fixed[b[0]]; known {
			good := false
			for _, n := range want {
				good = good || n == int(b[1])
			}
			if !good {
				return false
			}
		}
		b = b[b[1]:]
	}
	return true
}
