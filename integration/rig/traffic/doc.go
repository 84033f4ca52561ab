// Package traffic has sources and sinks that run on the kernel's own sockets
// inside network namespaces: TCP bulk transfer and request/response, paced UDP
// streams (voice, floods), raw IP packets and packet capture.
//
// A socket belongs to the namespace it was made in for good, so only its making
// happens on a thread inside; all else is ordinary Go. Every measurement ends
// with its context or its own deadline.
//
// Rates in results are bits per second and name what they count: Payload* is
// what the application sent, IP* includes IP and transport headers (IPv4
// without options: 28 bytes for UDP).
package traffic
