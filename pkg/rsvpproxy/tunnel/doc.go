// Package tunnel is RSVP over IP tunnels (RFC 2746): between the two ends of a
// tunnel runs one RSVP session of its own, the tunnel session, whose reservation
// is as large as what the end-to-end sessions that cross the tunnel have
// reserved, encapsulation included (a "soft pipe", section 3.1.2).
//
// It is pure. It stands between the messages and the RSVP machine: it sees what
// comes out of a tunnel and what goes into one, and the wishes for reservations on
// it. At the entry of a tunnel (entry.go) a reservation waits until the tunnel
// session has grown by it; at the exit (exit.go) the tunnel session is received.
package tunnel
