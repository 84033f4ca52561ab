// Package emulator is the pure core of the rig's link emulator: one direction
// of a link with a rate, a drop-tail queue, a delay, loss, reordering and
// duplication. It reads no clock and does no IO; the random source is an
// argument, so a seed and a schedule of arrivals give the same result each time.
//
// A frame's way:
//
//	arrival -> script -> drop-tail queue -> transmitter -> loss -> delay -> delivery
//
// A lost frame has used the transmitter's time: it is lost on the wire, as on
// a real link, not in front of it. A duplicate uses none.
package emulator
