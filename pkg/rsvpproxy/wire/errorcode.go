package wire

import (
	"fmt"
	"strconv"
)

// ErrorCode is the Error Code of an ERROR_SPEC (RFC 2205 Appendix B and the
// IANA registry).
type ErrorCode uint8

// The error codes.
const (
	ErrConfirm        ErrorCode = 0 // not an error: confirmation
	ErrAdmission      ErrorCode = 1 // admission control failure
	ErrPolicy         ErrorCode = 2 // policy control failure
	ErrNoPath         ErrorCode = 3 // no path information for this Resv
	ErrNoSender       ErrorCode = 4 // no sender information for this Resv
	ErrStyleConflict  ErrorCode = 5 // value: the existing style's option vector
	ErrUnknownStyle   ErrorCode = 6
	ErrDstPorts       ErrorCode = 7  // zero and non-zero DstPort in one destination
	ErrSrcPorts       ErrorCode = 8  // zero and non-zero SrcPort in one session
	ErrPreempted      ErrorCode = 12 // service preempted
	ErrUnknownClass   ErrorCode = 13 // value: Class-Num and C-Type
	ErrUnknownCType   ErrorCode = 14 // value: Class-Num and C-Type
	ErrAPI            ErrorCode = 20
	ErrTrafficControl ErrorCode = 21
	ErrTCSystem       ErrorCode = 22
	ErrRSVPSystem     ErrorCode = 23
	ErrRouting        ErrorCode = 24 // RFC 3209
	ErrNotify         ErrorCode = 25 // RFC 3209
	ErrNewAggregate   ErrorCode = 26 // RFC 3175
	ErrDiffServ       ErrorCode = 27 // RFC 3270
	ErrDSTE           ErrorCode = 28 // RFC 4124
	ErrReceiverProxy  ErrorCode = 36 // RFC 5946: unrecoverable receiver proxy error
	ErrMPLS           ErrorCode = 37 // RSVP over MPLS problem (RFC 6178)
)

// Values of ErrAdmission.
const (
	AdmissionDelay     uint16 = 1 // delay bound cannot be met
	AdmissionBandwidth uint16 = 2 // requested bandwidth unavailable
	AdmissionMTU       uint16 = 3 // MTU in flowspec larger than interface MTU
)

// Values of ErrPolicy (RFC 2750 Appendix A, RFC 4495 section 4). Those of a bad
// POLICY_DATA object are in policy.go.
const (
	PolicyRejected         uint16 = 3
	PolicyExceeded         uint16 = 4 // a quota
	PolicyPreempted        uint16 = 5
	PolicyMerge            uint16 = 8  // policies could not be merged (multicast)
	PolicyMissing          uint16 = 14 // a policy element that must be there
	PolicyNoResources      uint16 = 15 // too much of it
	PolicyService          uint16 = 17 // the type of service was rejected
	PolicyStyle            uint16 = 18
	PolicyFlowSpec         uint16 = 19 // is too large
	PolicyPartialPreempted uint16 = 102
)

// Values of ErrTrafficControl.
const (
	TCServiceConflict    uint16 = 1
	TCServiceUnsupported uint16 = 2
	TCBadFlowSpec        uint16 = 3
	TCBadTSpec           uint16 = 4
	TCBadAdSpec          uint16 = 5
)

var codeNames = map[ErrorCode]string{
	ErrConfirm:        "confirmation",
	ErrAdmission:      "admission control failure",
	ErrPolicy:         "policy control failure",
	ErrNoPath:         "no path information for this Resv",
	ErrNoSender:       "no sender information for this Resv",
	ErrStyleConflict:  "conflicting reservation style",
	ErrUnknownStyle:   "unknown reservation style",
	ErrDstPorts:       "conflicting destination ports",
	ErrSrcPorts:       "conflicting sender ports",
	ErrPreempted:      "service preempted",
	ErrUnknownClass:   "unknown object class",
	ErrUnknownCType:   "unknown object C-Type",
	ErrAPI:            "API error",
	ErrTrafficControl: "traffic control error",
	ErrTCSystem:       "traffic control system error",
	ErrRSVPSystem:     "RSVP system error",
	ErrRouting:        "routing problem",
	ErrNotify:         "notify error",
	ErrNewAggregate:   "new aggregate needed",
	ErrDiffServ:       "DiffServ error",
	ErrDSTE:           "DiffServ-aware traffic engineering error",
	ErrReceiverProxy:  "unrecoverable receiver proxy error",
	ErrMPLS:           "RSVP over MPLS problem",
}

var valueNames = map[ErrorCode]map[uint16]string{
	ErrAdmission: {
		AdmissionDelay:     "delay bound cannot be met",
		AdmissionBandwidth: "requested bandwidth unavailable",
		AdmissionMTU:       "MTU in flowspec larger than interface MTU",
	},
	ErrPolicy: { // RFC 2750 Appendix A, RFC 4495
		1:                      "warning",
		2:                      "reason unknown",
		PolicyRejected:         "rejected",
		PolicyExceeded:         "quota exceeded",
		PolicyPreempted:        "reservation was preempted",
		6:                      "policy has expired",
		7:                      "policy was replaced",
		PolicyMerge:            "policies could not be merged",
		9:                      "policy decision point is down",
		10:                     "third party server is not available",
		PolicyBadSyntax:        "POLICY_DATA has bad syntax",
		12:                     "POLICY_DATA failed its integrity check",
		PolicyBadElement:       "policy element has bad syntax",
		PolicyMissing:          "mandatory policy element is missing",
		PolicyNoResources:      "no resources for so much policy",
		16:                     "bad RSVP objects",
		PolicyService:          "service type was rejected",
		PolicyStyle:            "reservation style was rejected",
		PolicyFlowSpec:         "flowspec was rejected",
		PolicyPartialPreempted: "reservation was preempted in part",
	},
	ErrTrafficControl: {
		TCServiceConflict:    "service conflict",
		TCServiceUnsupported: "service unsupported",
		TCBadFlowSpec:        "bad flowspec value",
		TCBadTSpec:           "bad Tspec value",
		TCBadAdSpec:          "bad Adspec value",
	},
}

// String names the code.
func (c ErrorCode) String() string {
	if s, ok := codeNames[c]; ok {
		return s
	}
	if c >= 29 && c <= 35 {
		return "traffic engineering error " + strconv.Itoa(int(c))
	}
	return "error " + strconv.Itoa(int(c))
}

// AllowedIn says whether RFC 2205 Appendix B has the code in messages of type t.
// Codes of later documents are let through.
func (c ErrorCode) AllowedIn(t MsgType) bool {
	switch t {
	case ResvConf:
		return c == ErrConfirm
	case ResvErr:
		return c != ErrConfirm && c != ErrSrcPorts
	case PathErr:
		// RFC 5946 section 3.1.1: a receiver proxy reports a failed reservation
		// to the sender, with codes 1 and 2 as they are and others inside code 36.
		switch c {
		case ErrConfirm, ErrNoPath, ErrNoSender, ErrStyleConflict, ErrUnknownStyle, ErrPreempted:
			return false
		default:
			return true
		}
	default:
		return false
	}
}

// subCode is the part of the Error Value that codes 1, 12 and 21 name their
// sub-codes in; informational is their u bit: the message may update state and
// is forwarded all the same (RFC 2205 Appendix B).
const (
	subCode       = 0x0fff
	informational = 0x2000
	scopeBits     = 0xc000 // ss: 00 global, 10 organization, 11 service
)

// Informational says whether an error of code 1 or 12 only informs: its u bit
// is set, state may be updated and the message is forwarded.
func Informational(c ErrorCode, value uint16) bool {
	return (c == ErrAdmission || c == ErrPreempted) && value&informational != 0
}

// Describe puts an error code and value into words.
func Describe(c ErrorCode, value uint16) string {
	switch c {
	case ErrConfirm:
		return c.String()
	case ErrUnknownClass, ErrUnknownCType:
		return fmt.Sprintf("%v: %v, C-Type %d", c, Class(value>>8), value&0xff)
	case ErrStyleConflict:
		return fmt.Sprintf("%v: %v is in place", c, Style(value))
	case ErrReceiverProxy: // RFC 5946 section 3.1.2: value is 0x01<<8 | code of the ResvErr
		return fmt.Sprintf("%v: %v", c, ErrorCode(value&0xff))
	default:
	}
	global := value
	if c == ErrAdmission || c == ErrTrafficControl {
		global = value & (scopeBits | subCode)
	}
	if s, ok := valueNames[c][global]; ok {
		return c.String() + ": " + s
	}
	if value == 0 {
		return c.String()
	}
	return fmt.Sprintf("%v: value %#04x", c, value)
}
