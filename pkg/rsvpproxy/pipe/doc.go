// Package pipe is what tunnels (RFC 2746) and aggregates (RFC 3175) have in common:
// end-to-end reservations ride in the reservation of a session between two routers.
// Whoever keeps such sessions stands between the messages, the RSVP machine and
// traffic control, and tells by effects what these have to do.
package pipe
