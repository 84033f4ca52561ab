// Package watchdog has a small process look after a daemon that holds packets in
// queues of the kernel: one that is stopped or hangs holds up what is in them,
// which only its going on or its end frees.
//
// The daemon beats through a pipe for as long as its parts answer. When it does not,
// the watchdog looks why before it does anything (judge.go): a stopped process is
// told to go on, one under a debugger is left alone, one that waits for a processor
// or a disk on a busy machine is given time, and what is left hangs and is killed.
// The pipe ends with the daemon, and the watchdog with the pipe.
package watchdog
