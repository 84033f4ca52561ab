package softstate

import "github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"

// Values of [wire.ErrRSVPSystem], which RFC 2205 leaves to the implementation.
const (
	systemLimit   uint16 = 1 // a limit on sessions, senders or neighbours is reached
	systemVersion uint16 = 2 // not in this version: multicast
)

// codeText puts an error code into words (RFC 2205 Appendix B).
func codeText(c wire.ErrorCode, value uint16) string {
	switch c {
	case wire.ErrConfirm:
		return "confirmed"
	case wire.ErrAdmission:
		switch value {
		case wire.AdmissionDelay:
			return "delay bound cannot be met"
		case wire.AdmissionBandwidth:
			return "requested bandwidth unavailable"
		case wire.AdmissionMTU:
			return "maximum packet size exceeds the interface's MTU"
		}
		return "admission control failure"
	case wire.ErrPolicy:
		switch value {
		case wire.PolicyPreempted:
			return "preempted by a reservation of higher priority"
		case wire.PolicyPartialPreempted:
			return "reduced in favour of another reservation"
		case wire.PolicyExceeded:
			return "refused by policy: quota exceeded"
		case wire.PolicyMissing:
			return "refused by policy: a user has to be named"
		case wire.PolicyService:
			return "refused by policy: not with this service"
		case wire.PolicyStyle:
			return "refused by policy: not in this style"
		case wire.PolicyFlowSpec:
			return "refused by policy: too large"
		}
		return "refused by policy"
	case wire.ErrNoPath:
		return "no path state for this reservation"
	case wire.ErrNoSender:
		return "no such sender for this reservation"
	case wire.ErrStyleConflict:
		return "reservation style conflicts with the existing one"
	case wire.ErrUnknownStyle:
		return "unknown reservation style"
	case wire.ErrDstPorts:
		return "zero and non-zero destination ports for one destination"
	case wire.ErrSrcPorts:
		return "zero and non-zero source ports for one sender"
	case wire.ErrPreempted:
		return "preempted"
	case wire.ErrUnknownClass:
		return "unknown object class"
	case wire.ErrUnknownCType:
		return "unknown object C-Type"
	case wire.ErrTrafficControl:
		return "traffic control cannot serve the request"
	case wire.ErrTCSystem:
		return "traffic control system error"
	case wire.ErrRSVPSystem:
		return "RSVP system error"
	case wire.ErrReceiverProxy:
		if code := wire.ErrorCode(value); value>>8 == 1 && code != wire.ErrReceiverProxy {
			return "receiver proxy: " + codeText(code, 0)
		}
		return "receiver proxy cannot reserve"
	default:
		return "error"
	}
}
