package pipe

import (
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Effect is one thing that the owner of a table of pipes has to do, in order.
type Effect interface{ effect() }

// Announce has the machine speak for the sender of a pipe's session, which is this
// machine.
type Announce struct{ Sender softstate.Sender }

// Silence ends what Announce began.
type Silence struct {
	Session wire.Session
	Sender  wire.Filter
}

// Refresh has the machine send the PATH of a sender now.
type Refresh struct {
	Session wire.Session
	Sender  wire.Filter
}

// Resend has it send the sender's RESV.
type Resend struct {
	Session wire.Session
	Sender  wire.Filter
}

// Reask has it ask again for what the sender has reserved.
type Reask struct {
	Session wire.Session
	Sender  wire.Filter
}

// Grant hands a wish that was held on to traffic control.
type Grant struct{ Reserve softstate.Reserve }

// Refuse answers a wish that was held: the pipe has no room for it.
type Refuse struct {
	ID  uint64
	Why softstate.Refusal
}

// Withdraw ends a reservation whose pipe has ended (RFC 3175 section 2.10).
type Withdraw struct {
	ID  uint64
	Why softstate.Refusal
}

// Fail tells the machine that what was reserved for a sender cannot cross the pipe
// that it comes out of (RFC 2746 section 6.2).
type Fail struct {
	Session wire.Session
	Sender  wire.Filter
	Why     softstate.Refusal
}

// Deliver hands a message that was held to the machine.
type Deliver struct{ Received softstate.Received }

// Send asks for a message to be sent.
type Send struct{ Send softstate.Send }

func (Announce) effect() {}
func (Silence) effect()  {}
func (Refresh) effect()  {}
func (Resend) effect()   {}
func (Reask) effect()    {}
func (Grant) effect()    {}
func (Refuse) effect()   {}
func (Withdraw) effect() {}
func (Fail) effect()     {}
func (Deliver) effect()  {}
func (Send) effect()     {}
