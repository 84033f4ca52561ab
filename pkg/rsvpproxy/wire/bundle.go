package wire

import "encoding/binary"

// The messages of RFC 2961.
const (
	Bundle   MsgType = 12 // section 3
	Ack      MsgType = 13 // section 4.4
	Srefresh MsgType = 15 // section 5.2
)

// RefreshReduction says whether t is one of the messages of RFC 2961.
func (t MsgType) RefreshReduction() bool { return t == Bundle || t == Ack || t == Srefresh }

// objectless says whether t consists of nothing but objects of RFC 2961.
func (t MsgType) objectless() bool { return t == Ack || t == Srefresh }

// Options choose what [Options.Parse] understands beyond RFC 2205.
type Options struct {
	Formats Formats // of sessions and filters beyond addresses and ports

	// RefreshReduction: the objects and messages of RFC 2961. Without it they
	// are unknown, and a MESSAGE_ID is refused with error 13.
	RefreshReduction bool
}

// IsBundle says whether b looks like a Bundle message, for [SplitBundle].
func IsBundle(b []byte) bool { return len(b) > 1 && MsgType(b[1]) == Bundle }

// SplitBundle checks the header of a Bundle message and returns it with the
// sub-messages, which share b's memory and are still to be parsed. Each is as
// if it had come alone, but with the bundle's Send_TTL (RFC 2961 section 3.4).
func SplitBundle(b []byte) (header Message, subs [][]byte, err error) {
	if _, err := HeaderType(b); err != nil {
		return Message{}, nil, err
	}
	if !IsBundle(b) {
		return Message{}, nil, malformed(KindType, 0, "message type %d", b[1])
	}
	header = Message{Type: Bundle, Flags: b[0] & 0x0f, SendTTL: b[4]}
	rest := b[commonHeader:]
	if len(rest) == 0 { // section 3.2
		return Message{}, nil, malformed(KindShort, 0, "bundle without a message")
	}
	for len(rest) > 0 {
		if len(rest) < commonHeader {
			return Message{}, nil, malformed(KindShort, 0, "%d bytes left in a bundle", len(rest))
		}
		n := int(binary.BigEndian.Uint16(rest[6:]))
		switch {
		case n < commonHeader || n > len(rest):
			return Message{}, nil, malformed(KindLength, 0, "length field %d, %d bytes left in a bundle", n, len(rest))
		case IsBundle(rest): // section 3.2
			return Message{}, nil, malformed(KindType, 0, "bundle in a bundle")
		}
		subs = append(subs, rest[:n:n])
		rest = rest[n:]
	}
	return header, subs, nil
}

// appendBundle appends a Bundle message with its sub-messages, which carry their
// own checksums all the same: the receiver hands them on one by one.
func (m *Message) appendBundle(b []byte) ([]byte, error) {
	if len(m.Bundle) == 0 {
		return b, malformed(KindShort, 0, "bundle without a message")
	}
	start := len(b)
	b = append(b, version<<4|m.Flags&0x0f, uint8(Bundle), 0, 0, m.SendTTL, 0, 0, 0)
	for _, sub := range m.Bundle {
		if sub.Type == Bundle {
			return b[:start], malformed(KindType, 0, "bundle in a bundle")
		}
		out, err := sub.Append(b)
		if err != nil {
			return b[:start], err
		}
		if b = out; len(b)-start > MaxMessage {
			return b[:start], malformed(KindTooLong, 0, "bundle above %d bytes", MaxMessage)
		}
	}
	seal(b[start:])
	return b, nil
}

// JoinBundle appends a Bundle message of whole messages, which are not changed:
// what authentication has signed, or has let through, one by one.
func JoinBundle(b []byte, flags, sendTTL uint8, subs [][]byte) ([]byte, error) {
	if len(subs) == 0 {
		return b, malformed(KindShort, 0, "bundle without a message")
	}
	start := len(b)
	b = append(b, version<<4|flags&0x0f, uint8(Bundle), 0, 0, sendTTL, 0, 0, 0)
	for _, sub := range subs {
		if IsBundle(sub) {
			return b[:start], malformed(KindType, 0, "bundle in a bundle")
		}
		if b = append(b, sub...); len(b)-start > MaxMessage {
			return b[:start], malformed(KindTooLong, 0, "bundle above %d bytes", MaxMessage)
		}
	}
	seal(b[start:])
	return b, nil
}

// seal fills in length and checksum.
func seal(msg []byte) {
	binary.BigEndian.PutUint16(msg[6:], uint16(len(msg)))
	binary.BigEndian.PutUint16(msg[2:], checksum(msg))
}
