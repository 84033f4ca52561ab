package wire

import "encoding/binary"

// Handshake is a message of the integrity handshake: an Integrity Challenge or
// an Integrity Response (RFC 2747 section 4.3, RFC 3097).
type Handshake struct {
	Type      MsgType // IntegrityChallenge or IntegrityResponse
	Flags     uint8
	SendTTL   uint8
	Integrity *Object // an IntegrityResponse must have it, a challenge has none
	Challenge Challenge
}

// ParseHandshake reads an Integrity Challenge or Response. Nothing about it is
// ever answered by an error message. It does not look at the digest.
func ParseHandshake(b []byte) (*Handshake, error) {
	t, err := HeaderType(b)
	if err != nil {
		return nil, err
	}
	if t != IntegrityChallenge && t != IntegrityResponse {
		return nil, malformed(KindType, 0, "message type %d", t)
	}
	h := &Handshake{Type: t, Flags: b[0] & 0x0f, SendTTL: b[4]}
	var seen int
	err = walk(b[commonHeader:], func(class Class, ctype uint8, body []byte) (err error) {
		switch {
		case class == ClassNull, !class.known() && class>>7 == 1: // ignored
		case class == ClassIntegrity && seen > 0:
			return malformed(KindOrder, class, "not directly behind the common header")
		case class == ClassIntegrity && t == IntegrityResponse && h.Integrity == nil:
			h.Integrity = clone(class, ctype, body)
		case class == ClassChallenge && seen == 0:
			h.Challenge, err = decodeChallenge(ctype, body)
			seen++
		default:
			return malformed(KindIllegalClass, class, "in a %v message", t)
		}
		return unanswered(err)
	})
	if err == nil {
		err = h.check(seen > 0)
	}
	if err != nil {
		return nil, err
	}
	return h, nil
}

func (h *Handshake) check(challenge bool) error {
	switch {
	case h.Type != IntegrityChallenge && h.Type != IntegrityResponse:
		return malformed(KindType, 0, "message type %d", h.Type)
	case !challenge:
		return malformed(KindMissing, ClassChallenge, "%v message without it", h.Type)
	case h.Integrity == nil && h.Type == IntegrityResponse:
		return malformed(KindMissing, ClassIntegrity, "%v message without it", h.Type)
	case h.Integrity != nil && h.Type == IntegrityChallenge:
		return malformed(KindIllegalClass, ClassIntegrity, "in a %v message", h.Type)
	case h.Integrity != nil && len(h.Integrity.Body)%4 != 0:
		return badSize(ClassIntegrity, h.Integrity.CType, h.Integrity.Body)
	}
	return h.Integrity.is(ClassIntegrity)
}

// Append appends the encoded message to b, with length and checksum.
// A response may be appended without its INTEGRITY: signing puts it in.
func (h *Handshake) Append(b []byte) ([]byte, error) {
	unsigned := *h
	if h.Type == IntegrityResponse && h.Integrity == nil {
		unsigned.Integrity = &Object{Class: ClassIntegrity}
	}
	if err := unsigned.check(true); err != nil {
		return b, err
	}
	start := len(b)
	b = appendCommon(b, h.Type, h.Flags, h.SendTTL)
	if h.Integrity != nil {
		b = appendObject(b, *h.Integrity)
	}
	return closeMessage(appendObject(b, h.Challenge), start)
}

func appendCommon(b []byte, t MsgType, flags, ttl uint8) []byte {
	return append(b, version<<4|flags&0x0f, uint8(t), 0, 0, ttl, 0, 0, 0)
}

// closeMessage puts length and checksum into the message that begins at start.
func closeMessage(b []byte, start int) ([]byte, error) {
	msg := b[start:]
	if len(msg) > MaxMessage {
		return b[:start], malformed(KindTooLong, 0, "message above %d bytes", MaxMessage)
	}
	binary.BigEndian.PutUint16(msg[6:], uint16(len(msg)))
	SetChecksum(msg)
	return b, nil
}

// unanswered takes from an error of a single object the wish to be answered.
func unanswered(err error) error {
	if e, ok := err.(*Error); ok && e != nil { //nolint:errorlint // made here, never wrapped
		e.Respond = false
	}
	return err
}
