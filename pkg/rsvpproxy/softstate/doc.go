// Package softstate is the RSVP soft-state machine of RFC 2205, built after the
// message processing rules of RFC 2209, with the two proxies of RFC 5945 and
// RFC 5946: path state (PSB), reservation state (RSB), traffic control state
// (TCSB), blockade state, their timers, and the messages they cause.
//
// The package is pure. Time is a parameter, randomness an argument, and what
// is to be done comes back as a list of [Effect] values: messages to send,
// reservations to ask admission control and the kernel for, news for people. A
// [Node] has no locks: one event loop owns it.
//
// In this version: IPv4, unicast, fixed-filter style. A session already holds
// several senders, several next hops and several outgoing interfaces, so that
// wildcard and shared styles, multicast and IPv6 are cases to add. What is not
// in yet is refused with the error the RFC has for it.
package softstate
