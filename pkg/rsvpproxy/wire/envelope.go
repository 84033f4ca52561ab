package wire

import (
	"encoding/binary"
	"net/netip"
)

// Envelope is what the authentication of a message has to know of it, whatever
// its type (RFC 2747 section 4).
type Envelope struct {
	Type MsgType
	// Signed says that there is INTEGRITY. Its Digest points into the message,
	// where it begins at DigestAt.
	Signed    bool
	Integrity Integrity
	DigestAt  int
	// Start and End are where the INTEGRITY object is, or where it belongs.
	Start, End int
	// Hop is the address in RSVP_HOP, invalid in a message without one.
	Hop netip.Addr
}

// Open reads what authentication needs to know of a message. It checks the
// common header and the lengths of all objects, and that INTEGRITY is nowhere
// but directly behind the common header (RFC 2205 section 3.1.3). It allocates
// nothing if the message is sound.
func Open(b []byte) (e Envelope, err error) {
	if e.Type, err = HeaderType(b); err != nil {
		return Envelope{}, err
	}
	if e.Type == Bundle { // holds messages, each with INTEGRITY of its own
		return Envelope{}, malformed(KindType, 0, "a Bundle is opened message by message")
	}
	e.Start, e.End = commonHeader, commonHeader
	first := true
	for at := commonHeader; at < len(b); {
		class, ctype, body, err := nextObject(b[at:])
		if err != nil {
			return Envelope{}, err
		}
		end := at + objectHeader + len(body)
		switch {
		case class == ClassIntegrity && !first:
			return Envelope{}, malformed(KindOrder, class, "not directly behind the common header")
		case class == ClassIntegrity:
			if e.Integrity, err = viewIntegrity(ctype, body); err != nil {
				return Envelope{}, err
			}
			e.Signed, e.DigestAt, e.Start, e.End = true, at+objectHeader+integrityFixed, at, end
		case class == ClassHop && !e.Hop.IsValid():
			if e.Hop, err = hopAddr(ctype, body); err != nil {
				return Envelope{}, err
			}
		}
		first = first && class == ClassNull
		at = end
	}
	return e, nil
}

// SetChecksum puts the checksum into a whole message.
func SetChecksum(b []byte) {
	binary.BigEndian.PutUint16(b[2:], 0)
	binary.BigEndian.PutUint16(b[2:], checksum(b))
}
