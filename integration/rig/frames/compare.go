package frames

import (
	"bytes"
	"fmt"
	"strings"
)

// Change is a field that is not as it was sent.
type Change struct {
	Field     string
	Sent, Got string
}

func (c Change) String() string { return fmt.Sprintf("%s: %s became %s", c.Field, c.Sent, c.Got) }

// Padding is how many bytes followed the IP packet in a frame.
type Padding struct {
	Sent, Got int
	Same      bool // byte for byte
}

// Compare names what differs between a frame as it was sent and as it arrived.
// Fields are looked for where the frame that was sent has them. Padding is what
// follows an IP packet; it is told apart from changes. What follows anything
// else is part of the frame.
func Compare(sent, got []byte) (changes []Change, pad Padding) {
	a, b := part(sent), part(got)
	whole := func(name string, x, y []byte) {
		if !bytes.Equal(x, y) {
			changes = append(changes, Change{name, hexOf(x), hexOf(y)})
		}
	}
	whole("Ethernet destination", a.dst, b.dst)
	whole("Ethernet source", a.src, b.src)
	if len(a.tags) == len(b.tags) {
		for i := range a.tags {
			changes = append(changes, compareTag(i+1, a.tags[i], b.tags[i])...)
		}
	} else {
		changes = append(changes, Change{"VLAN tags", tagsOf(a.tags), tagsOf(b.tags)})
		if len(b.rest) < 2 || !bytes.HasPrefix(a.rest, b.rest[:2]) {
			return changes, pad // what is behind another TPID is not to be compared
		}
	}
	s := shapeOf(a.rest)
	for _, f := range s.fields {
		x, y := a.rest, b.rest
		if f.At+f.Bits > 8*len(y) {
			changes = append(changes, Change{"length", fmt.Sprintf("%d bytes from the EtherType on", s.end), fmt.Sprintf("%d, cut in %s", len(y), f.Name)})
			return changes, pad
		}
		if !sameBits(x, y, f) {
			changes = append(changes, Change{f.Name, bitsOf(x, f), bitsOf(y, f)})
		}
	}
	behind, beyond := a.rest[s.end:], b.rest[s.end:]
	if !s.ip && len(beyond) > 0 {
		changes = append(changes, Change{"length", fmt.Sprintf("%d bytes from the EtherType on", s.end), fmt.Sprint(len(b.rest))})
	}
	return changes, Padding{Sent: len(behind), Got: len(beyond), Same: bytes.Equal(behind, beyond)}
}

// tagFields are the parts of a tag of IEEE 802.1Q clause 9.
var tagFields = []Field{{"TPID", 0, 16}, {"PCP", 16, 3}, {"DEI", 19, 1}, {"VID", 20, 12}}

func compareTag(n int, x, y []byte) (changes []Change) {
	for _, f := range tagFields {
		if !sameBits(x, y, f) {
			changes = append(changes, Change{fmt.Sprintf("%s of VLAN tag %d", f.Name, n), bitsOf(x, f), bitsOf(y, f)})
		}
	}
	return changes
}

func tagsOf(tags [][]byte) string {
	if len(tags) == 0 {
		return "none"
	}
	var out []string
	for _, t := range tags {
		out = append(out, hexOf(t))
	}
	return strings.Join(out, " ")
}

func bit(data []byte, i int) byte { return data[i/8] >> (7 - i%8) & 1 }

func sameBits(x, y []byte, f Field) bool {
	if f.At%8 == 0 && f.Bits%8 == 0 {
		return bytes.Equal(x[f.At/8:(f.At+f.Bits)/8], y[f.At/8:(f.At+f.Bits)/8])
	}
	for i := f.At; i < f.At+f.Bits; i++ {
		if bit(x, i) != bit(y, i) {
			return false
		}
	}
	return true
}

// bitsOf writes whole bytes as they are, and other fields as a number.
func bitsOf(data []byte, f Field) string {
	if f.At%8 == 0 && f.Bits%8 == 0 {
		return hexOf(data[f.At/8 : (f.At+f.Bits)/8])
	}
	value := 0
	for i := f.At; i < f.At+f.Bits; i++ {
		value = value<<1 | int(bit(data, i))
	}
	return fmt.Sprintf("%#x", value)
}

func hexOf(b []byte) string {
	const most = 24
	if len(b) > most {
		return fmt.Sprintf("%x... (%d bytes)", b[:most], len(b))
	}
	return fmt.Sprintf("%x", b)
}

// Stream names what a frame belongs to for those who keep packets in their order:
// its addresses, its tags and, but for later fragments, its ports. Segments with which
// connections begin and end are streams of their own.
func Stream(frame []byte) string {
	p := part(frame)
	s := shapeOf(p.rest)
	id := append([]byte{}, frame[:len(frame)-len(p.rest)]...)
	for _, f := range s.fields {
		switch f.Name {
		case "EtherType", "IP source address", "IP destination address", "IPv4 protocol", "IPv6 next header", "source port", "destination port":
			id = append(id, p.rest[f.At/8:(f.At+f.Bits)/8]...)
		case "TCP flags":
			if p.rest[f.At/8+1]&(syn|fin|rst) != 0 {
				id = append(id, 1)
			}
		}
	}
	return string(id)
}
