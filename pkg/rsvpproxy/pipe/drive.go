package pipe

import (
	"fmt"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
)

// Drive has the machine do what an effect asks of it, and returns what comes of that.
// Not mine: it asks something of others.
func Drive(n *softstate.Node, now time.Time, e Effect) (out []softstate.Effect, mine bool, err error) {
	switch e := e.(type) {
	case Announce:
		if out, err = n.AddSender(now, e.Sender); err != nil {
			err = fmt.Errorf("session %v: %w", e.Sender.Session, err)
		}
	case Silence:
		out = n.RemoveSender(now, e.Session, e.Sender)
	case Refresh:
		out = n.SendPath(now, e.Session, e.Sender)
	case Resend:
		out = n.SendResv(now, e.Session, e.Sender)
	case Reask:
		out = n.ReserveAgain(now, e.Session, e.Sender)
	case Withdraw:
		out = n.Withdraw(now, e.ID, e.Why)
	case Fail:
		out = n.CrossingFailed(now, e.Session, e.Sender, e.Why)
	default:
		return nil, false, nil
	}
	return out, true, err
}
