package wire

import "encoding/binary"

// RefreshReduction is the bit of [Message.Flags] that tells neighbours that the
// sender takes everything of RFC 2961 (section 2).
const RefreshReduction uint8 = 0x01

// The classes of RFC 2961. They are of form 0bbbbbbb: a node without the
// extension refuses them with error 13.
const (
	ClassMessageID     Class = 23
	ClassMessageIDAck  Class = 24
	ClassMessageIDList Class = 25
)

const (
	ctypeAck  = 1
	ctypeNack = 2

	ackDesired = 0x01      // flag of MESSAGE_ID
	epochMask  = 1<<24 - 1 // the epoch has 24 bits
)

func (c Class) refreshReduction() bool { return c >= ClassMessageID && c <= ClassMessageIDList }

// MessageID is the MESSAGE_ID object (RFC 2961 section 4.2).
type MessageID struct {
	Epoch      uint32 // 24 bits; another one with each start of the node
	ID         uint32
	AckDesired bool
}

// Before says whether m was made before n, both of one epoch: the comparison
// that stands the identifier's wrapping (RFC 2961 section 4.5).
func (m MessageID) Before(n MessageID) bool { return int32(n.ID-m.ID) > 0 }

func (m MessageID) header() (Class, uint8) { return ClassMessageID, ctypeOnly }
func (m MessageID) size() int              { return 8 }

func (m MessageID) appendBody(b []byte) []byte {
	first := m.Epoch & epochMask
	if m.AckDesired {
		first |= ackDesired << 24
	}
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, first), m.ID)
}

// MessageIDAck is a MESSAGE_ID_ACK object or, with Nack, a MESSAGE_ID_NACK
// (RFC 2961 section 4.3).
type MessageIDAck struct {
	Epoch uint32
	ID    uint32
	Nack  bool
}

func (a MessageIDAck) header() (Class, uint8) {
	if a.Nack {
		return ClassMessageIDAck, ctypeNack
	}
	return ClassMessageIDAck, ctypeAck
}
func (a MessageIDAck) size() int { return 8 }

func (a MessageIDAck) appendBody(b []byte) []byte { // flags: zero (section 4.3)
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, a.Epoch&epochMask), a.ID)
}

// reduction takes in an object of RFC 2961.
func (p *parser) reduction(class Class, ctype uint8, body []byte) error {
	if class != ClassMessageIDList && p.beyondIDs ||
		class == ClassMessageIDAck && p.m.MessageID != nil {
		// Directly behind INTEGRITY, the acknowledgments first (section 4.1).
		return malformed(KindOrder, class, "not directly behind the header")
	}
	var err *Error
	switch class {
	case ClassMessageID:
		switch {
		case p.m.Type == Ack: // section 4.4
			return malformed(KindIllegalClass, class, "in an Ack message")
		case p.m.MessageID != nil:
			return malformed(KindDuplicate, class, "second one")
		}
		var id MessageID
		if id, err = decodeMessageID(ctype, body); err == nil {
			p.m.MessageID = &id
		}
	case ClassMessageIDAck:
		var a MessageIDAck
		if a, err = decodeMessageIDAck(ctype, body); err == nil {
			p.m.Acks = append(p.m.Acks, a)
		}
	default:
		if p.m.Type != Srefresh {
			return malformed(KindIllegalClass, class, "in a %v message", p.m.Type)
		}
		p.beyondIDs = true
		var l MessageIDList
		if l, err = decodeMessageIDList(ctype, body); err == nil {
			p.m.Lists = append(p.m.Lists, l)
		}
	}
	if err != nil {
		if !err.Respond {
			return err
		}
		p.refuse(err)
	}
	return nil
}

func idWords(class Class, ctype uint8, body []byte) (first, id uint32, err *Error) {
	if len(body) != 8 {
		return 0, 0, badSize(class, ctype, body)
	}
	return binary.BigEndian.Uint32(body), binary.BigEndian.Uint32(body[4:]), nil
}

func decodeMessageID(ctype uint8, body []byte) (MessageID, *Error) {
	if ctype != ctypeOnly {
		return MessageID{}, unknownCType(ClassMessageID, ctype)
	}
	first, id, err := idWords(ClassMessageID, ctype, body)
	return MessageID{Epoch: first & epochMask, ID: id, AckDesired: first>>24&ackDesired != 0}, err
}

func decodeMessageIDAck(ctype uint8, body []byte) (MessageIDAck, *Error) {
	if ctype != ctypeAck && ctype != ctypeNack {
		return MessageIDAck{}, unknownCType(ClassMessageIDAck, ctype)
	}
	first, id, err := idWords(ClassMessageIDAck, ctype, body)
	return MessageIDAck{Epoch: first & epochMask, ID: id, Nack: ctype == ctypeNack}, err
}

// finishReduction checks an Ack or Srefresh as a whole: their BNF in RFC 2961
// sections 4.4 and 5.2.
func (m *Message) finishReduction() *Error {
	if m.Type == Ack {
		switch {
		case m.MessageID != nil:
			return malformed(KindIllegalClass, ClassMessageID, "in an Ack message")
		case len(m.Lists) > 0:
			return malformed(KindIllegalClass, ClassMessageIDList, "in an Ack message")
		case len(m.Acks) == 0:
			return malformed(KindMissing, ClassMessageIDAck, "Ack message without it")
		}
		return nil
	}
	if len(m.Lists) == 0 {
		return malformed(KindMissing, ClassMessageIDList, "Srefresh message without it")
	}
	for i := range m.Lists {
		l := &m.Lists[i]
		if (l.Kind == SourceList) != (m.Lists[0].Kind == SourceList) {
			return malformed(KindIllegalClass, ClassMessageIDList, "SRC_LIST together with another list")
		}
		if err := l.check(); err != nil {
			return err
		}
	}
	return nil
}

// emitIDs writes what stands directly behind INTEGRITY (RFC 2961 section 4.1).
func (m *Message) emitIDs(e *emitter) {
	for i := range m.Acks {
		e.put(&m.Acks[i])
	}
	if m.MessageID != nil {
		e.put(m.MessageID)
	}
}
