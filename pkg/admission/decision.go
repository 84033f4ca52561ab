package admission

import "github.com/qosproxy/qosproxy/pkg/intserv"

// The RSVP error codes and values of refusals (RFC 2205 Appendix B), as numbers,
// for the ERROR_SPEC.
const (
	CodeAdmission      uint8 = 1
	CodePolicy         uint8 = 2
	CodeTrafficControl uint8 = 21
	CodeTCSystem       uint8 = 22

	ValueDelay     uint16 = 1 // of CodeAdmission: delay bound cannot be met
	ValueBandwidth uint16 = 2 // of CodeAdmission: requested bandwidth unavailable
	ValueMTU       uint16 = 3 // of CodeAdmission: MTU in flowspec larger than interface MTU

	ValueRejected uint16 = 3  // of CodePolicy (RFC 2750 Appendix A)
	ValueExceeded uint16 = 4  // of CodePolicy: quota
	ValueMissing  uint16 = 14 // of CodePolicy: a user has to be named
	ValueService  uint16 = 17 // of CodePolicy: not with this service
	ValueFlowSpec uint16 = 19 // of CodePolicy: too large

	ValueUnsupported uint16 = 2 // of CodeTrafficControl: service unsupported
	ValueBadFlowSpec uint16 = 3 // of CodeTrafficControl

	ValueNoLink uint16 = 1 // of CodeTCSystem: link not configured
	ValueFull   uint16 = 2 // of CodeTCSystem: table of reservations full
	ValueLedger uint16 = 3 // of CodeTCSystem: ledger failed
)

// Decision is the answer to a Request.
type Decision struct {
	Admitted  bool
	Installed intserv.FlowSpec // what to set aside in the kernel, if admitted
	Bandwidth int64            // bytes/s counted for it
	User      string           // in whose account too, "" nobody's
	Priority  Priority         // as granted
	Preempted []Entry          // what had to make room, see [Control.AdmitOver]

	// Of a refusal: the ERROR_SPEC's code and value, and a sentence with figures.
	Code   uint8
	Value  uint16
	Reason string
	Denied Denial // of CodePolicy: what is wrong with who asks
	// Crowded: without others it would have been admitted.
	Crowded bool
	// InPlace says that an earlier reservation of the same ID stands unchanged
	// (RFC 2205 section 2.5, the killer reservation problem; Appendix A.5).
	InPlace bool
}
