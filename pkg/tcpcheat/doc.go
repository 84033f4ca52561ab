// Package tcpcheat is the TCP engine of sender-side cheating.
//
// The engine stands between a source and a receiver of TCP data and sees every
// packet of the connections it watches. Once a reservation is in place it
// acknowledges the source's data on the receiver's behalf, at the reserved
// rate, and absorbs the real acknowledgements: the source is clocked by the
// reservation and not by a congested reverse path. Two modes:
//
//   - Realtime keeps nothing. Data is forwarded and acknowledged; a hole at the
//     receiver stays a hole until somebody on its side fills it.
//   - Reliable keeps every byte that it acknowledged until the receiver has
//     acknowledged it too, and sends it again when it was lost.
//
// How the source is clocked. In-order data is forwarded at once and waits in a
// queue of fake acknowledgements, from which a token bucket (the TSpec's r, b
// and p) takes it. Two numbers follow: the acknowledgement number, and the
// right edge of the window, which lies a fixed distance ahead of what the
// bucket has let through. The edge therefore moves at the reserved rate
// whatever happens, and an acknowledgement that grows too old is sent early
// without moving the edge, so the source's retransmission timer never fires.
//
// The package is pure: no clock, no socket, no lock, no goroutine. Time is an
// argument of which only differences are used; the next deadline is a getter;
// packets to be sent and events are taken from the engine after each call.
package tcpcheat
