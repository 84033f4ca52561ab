// Package shaper brings the kernel's traffic control to the state that a plan
// asks for and treats flows there: HTB classes, policing by TSpec, DSCP marks
// and counters. It removes only what it made.
//
// Two lifetimes meet here. What Set makes belongs to the configuration; what
// Install makes belongs to a reservation. Both outlive a crash of the process
// (the eBPF part is pinned, HTB is the kernel's anyway), are adopted by the next
// Set, and Close decides whether they outlive an orderly end.
package shaper
