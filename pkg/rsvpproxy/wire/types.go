package wire

import "strconv"

// MsgType is the message type of the common header (RFC 2205 section 3.1.1).
type MsgType uint8

// The messages of RFC 2205.
const (
	Path     MsgType = 1
	Resv     MsgType = 2
	PathErr  MsgType = 3
	ResvErr  MsgType = 4
	PathTear MsgType = 5
	ResvTear MsgType = 6
	ResvConf MsgType = 7
)

// Notify tells a node that is no neighbour of an error (RFC 3473 section 4.3).
const Notify MsgType = 21

// The messages that have parsers of their own.
const (
	DiagRequest        MsgType = 8  // DREQ (RFC 2745), see [ParseDiag]
	DiagReply          MsgType = 9  // DREP
	IntegrityChallenge MsgType = 25 // RFC 2747 section 4.3, numbered by RFC 3097; see [ParseHandshake]
	IntegrityResponse  MsgType = 26
)

var msgNames = [...]string{
	Path: "Path", Resv: "Resv", PathErr: "PathErr", ResvErr: "ResvErr",
	PathTear: "PathTear", ResvTear: "ResvTear", ResvConf: "ResvConf",
	DiagRequest: "DREQ", DiagReply: "DREP",
	IntegrityChallenge: "IntegrityChallenge", IntegrityResponse: "IntegrityResponse",
	Bundle: "Bundle", Ack: "Ack", Srefresh: "Srefresh", Notify: "Notify",
}

// String returns the RFC's name of the message.
func (t MsgType) String() string {
	if int(t) < len(msgNames) && msgNames[t] != "" {
		return msgNames[t]
	}
	return "type-" + strconv.Itoa(int(t))
}

// Known says whether t is one of the seven messages.
func (t MsgType) Known() bool { return t >= Path && t <= ResvConf }

// NeedsRouterAlert says whether the message is addressed past the next hop and
// therefore carries the Router Alert option (RFC 2205 section 3.3).
func (t MsgType) NeedsRouterAlert() bool { return t == Path || t == PathTear || t == ResvConf }

// Class is an object's Class-Num (RFC 2205 section 3.1.2, Appendix A).
type Class uint8

// The classes of RFC 2205.
const (
	ClassNull           Class = 0
	ClassSession        Class = 1
	ClassHop            Class = 3
	ClassIntegrity      Class = 4
	ClassTimeValues     Class = 5
	ClassErrorSpec      Class = 6
	ClassScope          Class = 7
	ClassStyle          Class = 8
	ClassFlowSpec       Class = 9
	ClassFilterSpec     Class = 10
	ClassSenderTemplate Class = 11
	ClassSenderTSpec    Class = 12
	ClassAdSpec         Class = 13
	ClassPolicyData     Class = 14
	ClassResvConfirm    Class = 15
)

// Classes of later documents. [Parse] treats them as unknown, by the first bits
// of their numbers.
const (
	ClassDiagnostic   Class = 30  // RFC 2745
	ClassRoute        Class = 31  // RFC 2745
	ClassDiagResponse Class = 32  // RFC 2745
	ClassDiagSelect   Class = 33  // RFC 2745
	ClassChallenge    Class = 64  // RFC 2747
	ClassNodeChar     Class = 128 // RFC 2746
	ClassSOI          Class = 132 // SESSION-OF-INTEREST (RFC 4860)
	ClassSessionAssoc Class = 192 // RFC 2746
	ClassNotify       Class = 195 // NOTIFY_REQUEST (RFC 3473), see [NotifyRequest]
	ClassDClass       Class = 225 // RFC 2996
)

var classNames = [...]string{
	ClassNull: "NULL", ClassSession: "SESSION", ClassHop: "RSVP_HOP", ClassIntegrity: "INTEGRITY",
	ClassTimeValues: "TIME_VALUES", ClassErrorSpec: "ERROR_SPEC", ClassScope: "SCOPE",
	ClassStyle: "STYLE", ClassFlowSpec: "FLOWSPEC", ClassFilterSpec: "FILTER_SPEC",
	ClassSenderTemplate: "SENDER_TEMPLATE", ClassSenderTSpec: "SENDER_TSPEC",
	ClassAdSpec: "ADSPEC", ClassPolicyData: "POLICY_DATA", ClassResvConfirm: "RESV_CONFIRM",
}

// String returns the RFC's name of the class.
func (c Class) String() string {
	if c.known() {
		return classNames[c]
	}
	switch c {
	case ClassDiagnostic:
		return "DIAGNOSTIC"
	case ClassRoute:
		return "ROUTE"
	case ClassDiagResponse:
		return "DIAG_RESPONSE"
	case ClassDiagSelect:
		return "DIAG_SELECT"
	case ClassChallenge:
		return "CHALLENGE"
	case ClassNodeChar:
		return "NODE_CHAR"
	case ClassSessionAssoc:
		return "SESSION_ASSOC"
	case ClassSOI:
		return "SESSION_OF_INTEREST"
	case ClassDClass:
		return "DCLASS"
	case ClassNotify:
		return "NOTIFY_REQUEST"
	case ClassMessageID:
		return "MESSAGE_ID"
	case ClassMessageIDAck:
		return "MESSAGE_ID_ACK"
	case ClassMessageIDList:
		return "MESSAGE_ID_LIST"
	default:
	}
	return "class-" + strconv.Itoa(int(c))
}

func (c Class) known() bool { return int(c) < len(classNames) && classNames[c] != "" }

// Object is an object kept as it came, for what this node does not interpret.
type Object struct {
	Class Class
	CType uint8
	Body  []byte // without the object header; a multiple of four bytes
}
