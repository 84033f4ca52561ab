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
// Sessions are of IPv4 and, with [Config.IPv6], of IPv6, unicast and multicast;
// reservations of all three styles are merged over next hops, outgoing
// interfaces and, in the shared styles, over the senders behind a previous hop.
// Where the [Environment] does not route multicast, such sessions are refused.
package softstate
