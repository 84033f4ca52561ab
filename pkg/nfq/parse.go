package nfq

import (
	"encoding/binary"
	"errors"
	"slices"
)

// Errors of the parser: values, since they may come often.
var (
	errShort    = errors.New("nfq: message is shorter than it says")
	errAttr     = errors.New("nfq: attribute with a wrong length")
	errNoPacket = errors.New("nfq: packet message without an id or without a payload")
)

// kind is what a netlink message is to the worker.
type kind uint8

const (
	kindOther  kind = iota
	kindPacket      // Packet is filled in
	kindError       // an answer to one of our messages; errno 0 is an acknowledgement
)

// message is the parser's result besides the Packet.
type message struct {
	kind  kind
	hasID bool // Packet.ID is known, even if the rest did not parse
	errno int32
	seq   uint32
}

// parseMessage reads the first netlink message of b in place and tells where
// the next one starts. After an error the rest of b is not worth reading, but
// a packet's id may still be known: it stands first, and that packet has to
// get a verdict.
func parseMessage(b []byte, p *Packet, m *message) (rest []byte, err error) {
	*m = message{}
	if len(b) < nlHeaderLen {
		return nil, errShort
	}
	// Widened before any arithmetic: the length is an uint32 of the wire.
	n := int64(binary.NativeEndian.Uint32(b))
	typ := binary.NativeEndian.Uint16(b[4:])
	m.seq = binary.NativeEndian.Uint32(b[8:])
	if n < nlHeaderLen {
		return nil, errShort
	}
	if n > int64(len(b)) {
		err = errShort
		n = int64(len(b))
	}
	body := b[nlHeaderLen:n]
	if next := (n + 3) &^ 3; err == nil && next < int64(len(b)) {
		rest = b[next:]
	}
	switch typ {
	case 2: // NLMSG_ERROR
		if len(body) < 4 {
			return nil, errShort
		}
		m.kind, m.errno = kindError, -int32(binary.NativeEndian.Uint32(body))
		return rest, err
	case msgPacket:
		if perr := parsePacket(body, p, m); perr != nil && err == nil {
			return nil, perr
		}
	}
	return rest, err
}

func parsePacket(body []byte, p *Packet, m *message) error {
	*p = Packet{}
	if len(body) < nfgenLen {
		return errShort
	}
	m.kind = kindPacket
	p.Queue = binary.BigEndian.Uint16(body[2:])
	capLen, payload := -1, false
	var port struct{ in, out int }
	for a := body[nfgenLen:]; len(a) >= attrHeader; {
		n := int(binary.NativeEndian.Uint16(a))
		if n < attrHeader || n > len(a) {
			return errAttr
		}
		v := a[attrHeader:n]
		switch binary.NativeEndian.Uint16(a[2:]) & attrTypeMask {
		case attrPacketHdr:
			if len(v) < 7 {
				return errAttr
			}
			p.ID, p.Hook, m.hasID = binary.BigEndian.Uint32(v), v[6], true
		case attrMark:
			if len(v) < 4 {
				return errAttr
			}
			p.Mark = binary.BigEndian.Uint32(v)
		case attrInDev:
			if len(v) < 4 {
				return errAttr
			}
			p.InIndex = int(binary.BigEndian.Uint32(v))
		case attrOutDev:
			if len(v) < 4 {
				return errAttr
			}
			p.OutIndex = int(binary.BigEndian.Uint32(v))
		case attrPhysInDev:
			if len(v) < 4 {
				return errAttr
			}
			port.in = int(binary.BigEndian.Uint32(v))
		case attrPhysOutDev:
			if len(v) < 4 {
				return errAttr
			}
			port.out = int(binary.BigEndian.Uint32(v))
		case attrCapLen:
			if len(v) < 4 {
				return errAttr
			}
			capLen = int(binary.BigEndian.Uint32(v))
		case attrSkbInfo:
			if len(v) < 4 {
				return errAttr
			}
			info := binary.BigEndian.Uint32(v)
			p.CsumNotReady, p.GSO = info&skbCsumUnready != 0, info&skbGSO != 0
		case attrPayload:
			// Capped, so that an append of the handler cannot write over what
			// stands behind it.
			p.Data, payload = slices.Clip(v), true
		}
		if n = align4(n); n >= len(a) {
			break
		}
		a = a[n:]
	}
	if !m.hasID || !payload {
		return errNoPacket
	}
	// On a bridge that br_netfilter serves the interface is the bridge; which of
	// its ports it was stands beside it, in whatever order.
	if port.in != 0 {
		p.InIndex = port.in
	}
	if port.out != 0 {
		p.OutIndex = port.out
	}
	p.OrigLen = len(p.Data)
	if capLen > len(p.Data) {
		p.OrigLen, p.Truncated = capLen, true
	}
	return nil
}
