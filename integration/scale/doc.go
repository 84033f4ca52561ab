// Command scale measures RSVP with very many sessions, on the box's own code and
// the kernel's own network:
//
//	host side - G - X - S - host side
//
// G, X and S are processes in namespaces of their own. Each runs the event loop
// of pkg/rsvpproxy behind a real NFQUEUE and in front of real raw sockets. G
// speaks for the senders, S for the receivers, and X, the hop between them, is
// what is measured: set-ups per second of its processor time, memory for each
// session, and the processor's share that refreshes cost, with RFC 2961 and
// without. What the kernel's treatment of a flow costs is measured apart, as a
// further row: X then installs each reservation by pkg/shaper.
//
// `make scale` runs it. It needs root, makes its own namespaces and removes
// them.
package main
