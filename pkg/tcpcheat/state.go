package tcpcheat

// State is what the engine does with a connection.
type State uint8

// The states of a connection.
const (
	Expected  State = iota // authorised by Watch, no SYN seen yet
	Opening                // in the handshake
	Watched                // established; only looked at
	Cheated                // a reservation is in place
	Draining               // no new cheating; what is in hand is delivered
	LeftAlone              // passes untouched for its life; see Reason
	Closed                 // ended; the entry goes soon
	Recalled               // cheated by an earlier process; what it promised is looked after
)

// String is the state's name in the control API.
func (s State) String() string {
	switch s {
	case Expected, Opening, Watched, Recalled:
		return "watched"
	case Cheated:
		return "cheated"
	case Draining:
		return "draining"
	case LeftAlone:
		return "left-alone"
	case Closed:
		return "closed"
	}
	return "?"
}
