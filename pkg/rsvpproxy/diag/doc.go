// Package diag is RFC 2745: what a node does with the diagnostic messages DREQ
// and DREP, and the client that asks. It is pure: it reads the state of the RSVP
// machine, changes none, and what is to be sent comes back as data.
//
// A request starts at the LAST-HOP, the node nearest to the receiver, and goes
// from hop to hop towards the sender; each adds what it knows (request.go). The
// last one turns it into the reply, which goes straight to the requester or back
// along the ROUTE (reply.go). Where the receiver is a host that knows nothing of
// RSVP, the box in front of it is LAST-HOP in its place.
package diag
