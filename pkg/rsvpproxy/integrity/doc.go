// Package integrity is the cryptographic authentication of RSVP messages
// between neighbours: RFC 2747 with the message types of RFC 3097.
//
// A [Link] has the keys and the associations of one secured interface. It signs
// what is sent, verifies what arrives, and takes part in the integrity
// handshake. It does no IO and reads no clock: the shell hands it messages and
// the time, sends what it is told to send, and calls [Link.Tick] when
// [Link.Deadline] says so. A Link is not safe for concurrent use.
//
// Times are compared as wall-clock times, since lifetimes of keys are such and
// since sequence numbers grow with the clock (RFC 2747 section 3.2).
package integrity
