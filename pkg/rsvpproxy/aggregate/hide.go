package aggregate

import (
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Hides says whether a message is to be hidden from the routers of the region:
// one that comes from outside of it, or starts here, and goes on inside, and that
// routers on its way would look at (RFC 3175 sections 2.1 and 3.1). Sessions of
// groups are not aggregated: their reservations are per session inside the region
// as well (section 2.12). Nor are aggregates, by other aggregates (section 1.4.9).
func Hides(s *softstate.Send, interior func(softstate.IfIndex) bool) bool {
	switch s.Msg.Type {
	case wire.Path, wire.PathTear, wire.ResvConf:
	default:
		return false
	}
	return interior(s.Out) && !interior(s.From) && EndToEnd(s.Msg.Session)
}

// EndToEnd says whether a session is one that an aggregate can carry.
func EndToEnd(s wire.Session) bool { return !IsAggregate(s) && !s.Dst.IsMulticast() }

// IsAggregate says whether a session is between routers.
func IsAggregate(s wire.Session) bool {
	return s.Format == wire.FormatAggregate || s.Format == wire.FormatGenericAggregate
}
