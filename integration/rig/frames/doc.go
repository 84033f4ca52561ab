// Package frames makes Ethernet frames by hand, sends them into one side of a
// bridged box, and compares them with what comes out at the other side, bit by
// bit: what changed is named by its field, and so is what was lost, doubled, out
// of order or sent by nobody. Dissecting and comparing are pure.
package frames
