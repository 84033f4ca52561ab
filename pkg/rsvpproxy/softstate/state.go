package softstate

// State is how far a sender's reservation is.
type State uint8

// The states.
const (
	Inactive   State = iota // no way to send PATH
	PathOnly                // path state, nobody asked for a reservation
	Requested               // admission control has not answered yet
	Reserved                // resources are set aside on the outgoing interface
	Rejected                // refused here, or for a proxy anywhere on the path
	Blockaded               // refused upstream: RFC 2205 section 3.5
	stateCount              // number of states
)

var stateNames = [stateCount]string{"inactive", "path", "requested", "reserved", "rejected", "blockaded"}

// String returns the name that the API uses.
func (s State) String() string {
	if s < stateCount {
		return stateNames[s]
	}
	return "unknown"
}

// MarshalText writes the name that the API uses.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Role is what this node is for one sender of a session (RFC 5946 section 2).
type Role uint8

// The roles.
const (
	Transit       Role = iota // neither end
	SenderProxy               // speaks for the sender
	ReceiverProxy             // speaks for the receiver
	BothProxy                 // both hosts are behind this node
	roleCount                 // number of roles
)

var roleNames = [roleCount]string{"transit", "sender-proxy", "receiver-proxy", "sender-proxy"}

// String returns the name that the API uses. A node that speaks for both ends
// is listed as sender proxy: it has no previous hop.
func (r Role) String() string {
	if r < roleCount {
		return roleNames[r]
	}
	return "unknown"
}

// MarshalText writes the name that the API uses.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
