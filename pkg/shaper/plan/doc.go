// Package plan is the wanted state of the kernel, as plain values: which
// interface is shaped into which classes, which programs hang where, what is
// queued to user space. It computes the operations that lead from one state to
// another and writes both as text; it touches nothing and needs no privilege.
package plan
