// Package reliable is RFC 2961 between the soft-state machine and the network:
// messages that tell something new carry a MESSAGE_ID and are repeated until
// they are acknowledged, refreshes of what a neighbour has acknowledged become
// entries of a Srefresh, and what goes to one neighbour travels in a Bundle.
//
// A [Layer] takes the [softstate.Send] effects of a node and returns the
// messages to transmit; it takes the packets that arrive and returns the
// messages to hand to the node. What a Srefresh stands for is kept and handed
// to the node again, so that the machine needs to know nothing of all this.
// Neighbours that lack the extension are spoken to as RFC 2205 has it.
//
// The package is pure: time is a parameter, randomness an argument. A Layer has
// no locks.
package reliable
