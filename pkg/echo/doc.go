// Package echo measures round trips to hosts by ICMP echo (RFC 792, RFC 4443
// section 4).
//
// It is asked seldom, where nothing else tells a round trip, and so keeps to
// little: one request for a host at a time and none within a second of the last,
// whoever asks; a few each second in all; no repetition. Who asks again, asks
// again. An answer counts only if it is from the host that was asked and brings
// back the identifier, the sequence number and the chance bytes of the request.
package echo
