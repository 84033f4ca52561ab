// Package rsvpproxy runs the soft-state machine on real packets and a real
// clock: it takes captured RSVP messages in, sends what the machine wants sent,
// and has traffic control do what the machine wants reserved.
//
// One event loop owns the machine (loop.go). Captured messages and commands
// come to it through bounded queues; traffic control, which may take a
// millisecond for each reservation, runs beside it (control.go).
package rsvpproxy
