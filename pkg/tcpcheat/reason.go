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
	ErrFragment     = errors.New("IP fragments")
	ErrChanged      = errors.New("data changed on retransmission")
	ErrNeverSent    = errors.New("an end acknowledges what was never sent")
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
)

// ErrDraining says that an earlier reservation's data is still being delivered.
var ErrDraining = errors.New("flow is draining")
