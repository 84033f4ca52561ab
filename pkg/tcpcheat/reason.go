package tcpcheat

import "errors"

// Errors of Watch and Start, and reasons of flows that are left alone.
var (
	ErrUnknownFlow  = errors.New("flow is not watched")
	ErrTableFull    = errors.New("flow table is full")
	ErrNoHandshake  = errors.New("handshake was not seen")
	ErrNotTCP       = errors.New("not TCP")
	ErrClosing      = errors.New("connection is closing")
	ErrOtherSide    = errors.New("the other direction of this connection is watched")
	ErrMPTCP        = errors.New("multipath TCP")
	ErrMD5          = errors.New("TCP-MD5 signature")
	ErrAO           = errors.New("TCP authentication option")
	ErrFastOpen     = errors.New("TCP Fast Open data in the SYN")
	ErrENO          = errors.New("TCP encryption negotiation")
	ErrAccECN       = errors.New("accurate ECN")
	ErrOption       = errors.New("unknown or malformed TCP option")
	ErrUrgent       = errors.New("urgent data")
	ErrSimultaneous = errors.New("simultaneous open")
	ErrSYNData      = errors.New("data in the SYN")
	ErrContradicted = errors.New("SYN-ACK contradicts the SYN")
	ErrTimestamps   = errors.New("timestamps negotiated but missing")
	ErrOverload     = errors.New("the box was overloaded")
	ErrFragment     = errors.New("IP fragments")
	ErrChanged      = errors.New("data changed on retransmission")
	ErrNeverSent    = errors.New("an end acknowledges what was never sent")
	ErrOneWay       = errors.New("only one direction of it passes this box")
	ErrTwoPorts     = errors.New("its packets come in by more than one port of the bridge")
	ErrOnePort      = errors.New("both its ends are behind the same port of the bridge")
	ErrUnrecorded   = errors.New("no room to record what is promised on its receiver's behalf")
	ErrNothingOpen  = errors.New("the receiver has everything that was promised")
	ErrReused       = errors.New("another connection has its ports")
	ErrRecalled     = errors.New("cheated by an earlier process")
	ErrUnheard      = errors.New("an earlier process promised what its receiver may not have got, and that does not answer here")
)

// Reasons of flows that were given back, stopped or reset.
const (
	reasonStopped    = "reservation ended"
	reasonHole       = "hole at the receiver"
	reasonNoProgress = "receiver makes no progress"
	reasonReplaced   = "replaced by a new connection"
	reasonClosed     = "closed"
	reasonResetSrc   = "reset by the source"
	reasonResetRcv   = "reset by the receiver"
	reasonDoubted    = "reset, and silence after it"
	reasonIdle       = "idle"
	reasonForgotten  = "forgotten"
	reasonRecalled   = "an earlier process promised what the receiver may not have got"
	reasonHealed     = "an earlier process cheated it, and its receiver has got everything"
	reasonBroken     = "an earlier process promised what the receiver never got"
)

// ErrDraining says that an earlier reservation's data is still being delivered.
var ErrDraining = errors.New("flow is draining")
