// Package wire is the codec of RSVP version 1: the seven messages of RFC 2205
// with the objects of its Appendix A and the integrated-services data of
// RFC 2210, for IPv4 and IPv6.
//
// The package is pure. [Parse] copies what it keeps, so that the caller may
// reuse its buffer; [Message.Append] rebuilds a message with length and
// checksum, as every hop does (RFC 2205 Appendix B). Objects of unknown class
// that have to travel on are kept byte for byte.
//
// Each object class has its file. Adding a C-Type means a case in that file.
package wire
