// Package netstack has tests of pkg/tcpcheat with an independent TCP at both
// ends: the user space stack of gVisor. The models of a source and a receiver
// in pkg/tcpcheat were written by those who wrote the engine; this one was not,
// and follows Linux.
//
// All is one program under virtual time: two stacks, the boxes between them,
// and links with delay, loss, repetition and reordering from a seeded source
// of randomness. No root, no sockets, no real clock.
package netstack
