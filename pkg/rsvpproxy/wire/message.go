package wire

import (
	"net/netip"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// MaxMessage is the largest RSVP message in bytes: the common header's length
// field has 16 bits.
const MaxMessage = 1<<16 - 1

// Message is one RSVP message. Which fields are set depends on Type, see the
// table in rules.go; [Parse] and [Message.Append] hold messages to it.
type Message struct {
	Type    MsgType
	Flags   uint8 // low nibble of the first byte; 0x01: RFC 2961 capable
	SendTTL uint8 // the IP TTL the message was or will be sent with (RFC 2205 section 3.8)

	Session     Session
	Hop         *Hop
	TimeValues  *TimeValues
	ErrorSpec   *ErrorSpec
	ResvConfirm netip.Addr   // the receiver that wants a confirmation; invalid: none
	Scope       []netip.Addr // ascending
	Style       Style        // 0: none

	// The sender descriptor of Path, PathTear and PathErr.
	SenderTemplate *Filter
	SenderTSpec    *intserv.TSpec
	AdSpec         *intserv.AdSpec
	// RawTSpec and RawAdSpec are set when the object holds what cannot be told
	// by SenderTSpec or AdSpec. Append then writes them instead.
	RawTSpec, RawAdSpec *Object

	// Flows is the flow descriptor list, in the order of the message.
	Flows []FlowDescriptor
	// BadFlows are flow descriptors of a Resv whose FLOWSPEC traffic control
	// must refuse: each is answered by a ResvErr of its own, the rest of the
	// message stands (RFC 2205 section 3.1.8). Append ignores them.
	BadFlows []BadFlow

	// RFC 2961. Parse leaves them empty unless [Options] say otherwise.
	Acks      []MessageIDAck
	MessageID *MessageID
	Lists     []MessageIDList // of a Srefresh
	Bundle    []*Message      // the sub-messages of a Bundle, for Append only

	// More are the further sessions of a Notify, each with the ERROR_SPEC of the
	// whole.
	More []*Message

	// TunnelEnd: a Resv has NODE_CHAR with the T bit (RFC 2746 section 2.3.2).
	TunnelEnd bool

	Integrity *Object  // see [ParseIntegrity]
	Policy    []Object // see [ParsePolicy]
	// SOI are sessions of interest (RFC 4860), which only [Options] with Formats keep.
	SOI []Session
	// Unknown are objects of class 11bbbbbb outside the flow descriptor list:
	// they travel on, unexamined and unmodified (RFC 2205 section 3.10).
	Unknown []Object
}

// FlowDescriptor is one element of the flow descriptor list (RFC 2205 section
// 3.1.4). FF: one per filter spec, a FLOWSPEC that the sender left out because
// it repeats is filled in. SE: one with all filter specs. WF: one without any.
type FlowDescriptor struct {
	FlowSpec *intserv.FlowSpec // nil: left out (ResvTear), or only in Raw
	Filters  []Filter
	// Raw is set when the FLOWSPEC holds what FlowSpec cannot tell. Append then
	// writes it instead.
	Raw *Object
	// Unknown are objects of class 11bbbbbb that followed this descriptor,
	// such as the DCLASS of RFC 2996.
	Unknown []Object
}

// BadFlow is a flow descriptor that has to be refused, and why.
type BadFlow struct {
	FlowDescriptor
	Err *Error
}
