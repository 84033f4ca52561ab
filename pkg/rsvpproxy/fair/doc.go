// Package fair shares out among neighbours what one of them would take all of:
// the messages that the protocol works on, and the lines of the log. It has no
// clock: now is a parameter.
package fair
