package wire

import (
	"encoding/binary"
	"net/netip"
)

// ListKind tells the objects of class MESSAGE_ID_LIST apart.
type ListKind uint8

// The three kinds of RFC 2961 section 5.1.
const (
	IDList        ListKind = iota // MESSAGE_ID LIST: Resv state, Path state of unicast sessions
	SourceList                    // MESSAGE_ID SRC_LIST: Path state, sent to the group
	MulticastList                 // MESSAGE_ID MCAST_LIST: Path state, sent to the next hop
)

const (
	ctypeIDList    = 1
	ctypeSrcList4  = 2
	ctypeSrcList6  = 3
	ctypeMcstList4 = 4
	ctypeMcstList6 = 5
)

// MessageIDList is one of the list objects of a Srefresh.
type MessageIDList struct {
	Kind  ListKind
	Epoch uint32 // 24 bits
	IDs   []ListedID
}

// ListedID is one element of a list. Src is valid in a SourceList and in a
// MulticastList, Dst in a MulticastList.
type ListedID struct {
	ID       uint32
	Src, Dst netip.Addr
}

// MaxListed is how many identifiers of a plain list fit into a Srefresh of size
// bytes, which holds nothing else.
func MaxListed(size int) int {
	return max((min(size, MaxMessage)-commonHeader-objectHeader-4)/4, 1)
}

func (l MessageIDList) header() (Class, uint8) {
	six := len(l.IDs) > 0 && l.IDs[0].Src.Is6()
	switch {
	case l.Kind == IDList:
		return ClassMessageIDList, ctypeIDList
	case l.Kind == SourceList && six:
		return ClassMessageIDList, ctypeSrcList6
	case l.Kind == SourceList:
		return ClassMessageIDList, ctypeSrcList4
	case six:
		return ClassMessageIDList, ctypeMcstList6
	default:
		return ClassMessageIDList, ctypeMcstList4
	}
}

func (l MessageIDList) size() int {
	_, ctype := l.header()
	addr, n := listShape(ctype)
	return 4 + len(l.IDs)*(4+addr*n)
}

// listShape returns the size of an address and how many follow an identifier.
func listShape(ctype uint8) (size, count int) {
	switch ctype {
	case ctypeSrcList4:
		return 4, 1
	case ctypeSrcList6:
		return 16, 1
	case ctypeMcstList4:
		return 4, 2
	case ctypeMcstList6:
		return 16, 2
	default:
		return 0, 0
	}
}

func (l MessageIDList) appendBody(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, l.Epoch&epochMask) // flags: zero (section 5.1)
	for _, e := range l.IDs {
		b = binary.BigEndian.AppendUint32(b, e.ID)
		if l.Kind != IDList {
			b = appendAddr(b, e.Src)
		}
		if l.Kind == MulticastList {
			b = appendAddr(b, e.Dst)
		}
	}
	return b
}

// check holds a list that is to be sent to what its kind needs.
func (l *MessageIDList) check() *Error {
	if len(l.IDs) == 0 {
		return malformed(KindObjectLength, ClassMessageIDList, "empty list")
	}
	if l.Kind > MulticastList {
		return malformed(KindIllegalClass, ClassMessageIDList, "list of kind %d", l.Kind)
	}
	if l.Kind == IDList {
		return nil
	}
	six := l.IDs[0].Src.Is6()
	for _, e := range l.IDs {
		switch {
		case badAddr(e.Src) != "" || e.Src.Is6() != six || e.Src.Zone() != "":
			return malformed(KindAddress, ClassMessageIDList, "source %v", e.Src)
		case l.Kind == MulticastList && (!e.Dst.IsMulticast() || e.Dst.Is6() != six || e.Dst.Zone() != ""):
			return malformed(KindAddress, ClassMessageIDList, "group %v", e.Dst)
		}
	}
	return nil
}

func decodeMessageIDList(ctype uint8, body []byte) (MessageIDList, *Error) {
	if ctype < ctypeIDList || ctype > ctypeMcstList6 {
		return MessageIDList{}, unknownCType(ClassMessageIDList, ctype)
	}
	size, count := listShape(ctype)
	one := 4 + size*count
	if len(body) < 4+one || (len(body)-4)%one != 0 {
		return MessageIDList{}, badSize(ClassMessageIDList, ctype, body)
	}
	l := MessageIDList{
		Kind: ListKind(count), Epoch: binary.BigEndian.Uint32(body) & epochMask,
		IDs: make([]ListedID, 0, (len(body)-4)/one),
	}
	for b := body[4:]; len(b) > 0; b = b[one:] {
		e := ListedID{ID: binary.BigEndian.Uint32(b)}
		if count > 0 {
			e.Src, _ = netip.AddrFromSlice(b[4 : 4+size]) // 4 or 16 bytes: cannot fail
		}
		if count > 1 {
			e.Dst, _ = netip.AddrFromSlice(b[4+size : one])
		}
		l.IDs = append(l.IDs, e)
	}
	return l, nil
}
