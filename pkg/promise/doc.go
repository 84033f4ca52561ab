// Package promise is the form of the file that keeps what cheated connections were
// promised on their receivers' behalf, for the time after a process that dies
// without a word (SIGKILL).
//
// The file is mapped and shared with the kernel, which has whatever was stored in
// it when the process is gone. It has a header and a fixed number of slots. A slot
// has a part that is written once, when a connection takes it, and two copies of
// what changes with every packet, written in turn, each with a count and a
// checksum of its own. A process may die between any two stores: then the copy that
// it was about to write does not match its checksum, and the other one counts.
// Since a promise is recorded before it is given, nothing is missing in that.
//
// The package is pure: it works on the bytes.
package promise
