// Package gather puts IP fragments together: those of RSVP messages on a bridge,
// where the kernel leaves fragments as they are. RFC 2205 section 3.3 relies on IP
// fragmentation for messages that are longer than a link's MTU.
//
// The package is pure: time is a parameter, and what is put together, given up or
// still missing comes back to who asked. Nothing is lost: a datagram that cannot be
// put together is given up in the pieces in which it came, to be sent on as by a wire.
package gather
