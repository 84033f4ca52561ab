package nfq

import (
	"bytes"
	stdcmp "cmp"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// attribute is one of a message built for a test.
type attribute struct {
	typ uint16
	val []byte
}

func word(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// packetMessage builds what the kernel sends for a packet.
func packetMessage(queue uint16, attrs ...attribute) []byte {
	body := binary.BigEndian.AppendUint16([]byte{unix.AF_INET, 0}, queue)
	for _, a := range attrs {
		body = binary.NativeEndian.AppendUint16(body, uint16(attrHeader+len(a.val)))
		body = binary.NativeEndian.AppendUint16(body, a.typ)
		body = append(body, a.val...)
		for len(body)%4 != 0 {
			body = append(body, 0)
		}
	}
	return netlinkMessage(msgPacket, body)
}

func netlinkMessage(typ uint16, body []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(nlHeaderLen+len(body)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, make([]byte, 10)...)
	return append(b, body...)
}

func header(id uint32, hook byte) attribute {
	return attribute{attrPacketHdr, append(word(id), 0x08, 0x00, hook)}
}

func sample() []byte {
	return packetMessage(101,
		header(7, 2), attribute{attrInDev, word(3)}, attribute{attrOutDev, word(4)},
		attribute{attrMark, word(0x51000001)}, attribute{attrSkbInfo, word(3)},
		attribute{21, word(9)}, // a priority, which is of no interest
		attribute{attrCapLen, word(9000)}, attribute{attrPayload, []byte("an IP packet, say")})
}

func TestParsePacket(t *testing.T) {
	var p Packet
	var m message
	rest, err := parseMessage(sample(), &p, &m)
	if err != nil || len(rest) != 0 || m.kind != kindPacket {
		t.Fatalf("%v, %d bytes left, %+v", err, len(rest), m)
	}
	want := Packet{
		ID: 7, Queue: 101, Hook: 2, InIndex: 3, OutIndex: 4, Mark: 0x51000001,
		Data: []byte("an IP packet, say"), CsumNotReady: true, GSO: true, Truncated: true, OrigLen: 9000,
	}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Error(diff)
	}
	if cap(p.Data) != len(p.Data) {
		t.Error("an append to Data would write into the next attribute")
	}
}

// A packet of a bridge is known by the ports, wherever in the message they stand:
// the kernel tells the bridge as the interface of both directions.
func TestParseBridged(t *testing.T) {
	payload, bridgeIn, bridgeOut := attribute{attrPayload, []byte("an IP packet")}, attribute{attrInDev, word(9)}, attribute{attrOutDev, word(9)}
	in, out := attribute{attrPhysInDev, word(3)}, attribute{attrPhysOutDev, word(4)}
	for name, tt := range map[string]struct {
		attrs   []attribute
		in, out int
	}{
		"forwarded":       {[]attribute{header(1, 2), bridgeIn, bridgeOut, in, out, payload}, 3, 4},
		"in front":        {[]attribute{in, out, header(1, 2), bridgeIn, bridgeOut, payload}, 3, 4},
		"behind":          {[]attribute{header(1, 2), bridgeOut, bridgeIn, payload, out, in}, 3, 4},
		"prerouting":      {[]attribute{header(1, 0), bridgeIn, in, payload}, 3, 0},
		"not of a bridge": {[]attribute{header(1, 2), bridgeIn, bridgeOut, payload}, 9, 9},
		"zeroes":          {[]attribute{header(1, 2), bridgeIn, bridgeOut, {attrPhysInDev, word(0)}, {attrPhysOutDev, word(0)}, payload}, 9, 9},
	} {
		var p Packet
		var m message
		if _, err := parseMessage(packetMessage(101, tt.attrs...), &p, &m); err != nil || p.InIndex != tt.in || p.OutIndex != tt.out {
			t.Errorf("%s: %v, in %d, out %d", name, err, p.InIndex, p.OutIndex)
		}
	}
}

// Every prefix of a message is an error, and the id is known as soon as its
// attribute is whole: that packet still gets its verdict.
func TestParsePrefixes(t *testing.T) {
	whole := sample()
	for n := range len(whole) {
		var p Packet
		var m message
		if _, err := parseMessage(whole[:n:n], &p, &m); err == nil {
			t.Errorf("a prefix of %d bytes is no error", n)
		}
		if known := n >= nlHeaderLen+nfgenLen+attrHeader+7; m.hasID != known || (known && p.ID != 7) {
			t.Errorf("a prefix of %d bytes: id known %v (%d), want %v", n, m.hasID, p.ID, known)
		}
	}
}

func TestParseErrors(t *testing.T) {
	tests := map[string]struct {
		in   []byte
		err  error
		id   bool
		kind kind
	}{
		"empty":              {nil, errShort, false, kindOther},
		"length below 16":    {append([]byte{4, 0, 0, 0}, make([]byte, 12)...), errShort, false, kindOther},
		"no payload":         {packetMessage(1, header(5, 0)), errNoPacket, true, kindPacket},
		"no header":          {packetMessage(1, attribute{attrPayload, []byte("x")}), errNoPacket, false, kindPacket},
		"short header":       {packetMessage(1, attribute{attrPacketHdr, word(1)}), errAttr, false, kindPacket},
		"short mark":         {packetMessage(1, header(5, 0), attribute{attrMark, []byte{1}}), errAttr, true, kindPacket},
		"short port in":      {packetMessage(1, header(5, 0), attribute{attrPhysInDev, []byte{1}}), errAttr, true, kindPacket},
		"short port out":     {packetMessage(1, header(5, 0), attribute{attrPhysOutDev, []byte{1}}), errAttr, true, kindPacket},
		"attribute length 0": {netlinkMessage(msgPacket, make([]byte, 12)), errAttr, false, kindPacket},
		"short error":        {netlinkMessage(2, []byte{1}), errShort, false, kindOther},
		"not for us":         {netlinkMessage(3, nil), nil, false, kindOther},
	}
	for name, tt := range tests {
		var p Packet
		var m message
		if _, err := parseMessage(tt.in, &p, &m); err != tt.err || m.hasID != tt.id || m.kind != tt.kind { //nolint:errorlint // bare values
			t.Errorf("%s: %v, %+v", name, err, m)
		}
	}
}

func TestParseKernelError(t *testing.T) {
	errno := unix.ENOENT
	in := netlinkMessage(2, binary.NativeEndian.AppendUint32(nil, uint32(-int32(errno))))
	var p Packet
	var m message
	if _, err := parseMessage(in, &p, &m); err != nil || m.kind != kindError || m.errno != int32(errno) {
		t.Errorf("%v, %+v", err, m)
	}
}

// FuzzParseMessage holds the parser against another decoder: what both call
// right, they read alike; and whatever comes, the parser ends, stays within
// the bytes and moves forward.
func FuzzParseMessage(f *testing.F) {
	f.Add(sample())
	f.Add(sample()[:60])
	f.Add(append(sample(), sample()...))
	f.Add(packetMessage(1, header(1, 0), attribute{attrPayload, nil}))
	f.Add(netlinkMessage(msgPacket, make([]byte, 12)))
	f.Add(netlinkMessage(2, word(1)))
	f.Fuzz(func(t *testing.T, in []byte) {
		for b := in; len(b) > 0; {
			var p Packet
			var m message
			rest, err := parseMessage(b, &p, &m)
			if len(rest) >= len(b) {
				t.Fatal("no step forward")
			}
			if err == nil && m.kind == kindPacket {
				compare(t, b, &p)
			}
			if err != nil && rest != nil {
				t.Fatal("an error that goes on")
			}
			b = rest
		}
	})
}

func compare(t *testing.T, b []byte, p *Packet) {
	t.Helper()
	n := binary.NativeEndian.Uint32(b)
	ad, err := netlink.NewAttributeDecoder(b[nlHeaderLen+nfgenLen : n])
	if err != nil {
		return // stricter than we are, about what follows the last attribute
	}
	ad.ByteOrder = binary.BigEndian
	var id, capLen uint32
	var in, out, physIn, physOut int
	var data []byte
	for ad.Next() {
		switch v := ad.Bytes(); ad.Type() {
		case attrPacketHdr:
			id = binary.BigEndian.Uint32(v)
		case attrPayload:
			data = v
		case attrCapLen:
			capLen = binary.BigEndian.Uint32(v)
		case attrInDev:
			in = int(binary.BigEndian.Uint32(v))
		case attrOutDev:
			out = int(binary.BigEndian.Uint32(v))
		case attrPhysInDev:
			physIn = int(binary.BigEndian.Uint32(v))
		case attrPhysOutDev:
			physOut = int(binary.BigEndian.Uint32(v))
		}
	}
	if ad.Err() != nil {
		return
	}
	if in, out = stdcmp.Or(physIn, in), stdcmp.Or(physOut, out); in != p.InIndex || out != p.OutIndex {
		t.Fatalf("other decoder: in %d, out %d; ours: %d, %d", in, out, p.InIndex, p.OutIndex)
	}
	if id != p.ID || !bytes.Equal(data, p.Data) || p.OrigLen != max(len(data), int(capLen)) {
		t.Fatalf("other decoder: id %d, %d bytes of %d; ours: %d, %d of %d", id, len(data), capLen, p.ID, len(p.Data), p.OrigLen)
	}
}
