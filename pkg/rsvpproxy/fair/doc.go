// Package fair shares out among interfaces and neighbours what one of them
// would take all of: the messages that the protocol works on, the state that is
// kept for them, and the lines of the log. It has no clock: now is a parameter.
package fair
