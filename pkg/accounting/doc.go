// Package accounting keeps account of what reservations carried: packets and
// bytes, conforming, exceeding and dropped apart, for how long, and at which
// peak rate; for each reservation, for each of its branches and senders, and for
// each user.
//
// The kernel counts, for each row of its table of flows, since the row is there.
// A [Book] is told which rows serve which reservation, and what they have counted
// whenever somebody looks; what has come since the last look belongs to the
// reservation that has the row. A row may serve one reservation after the other,
// and may begin to count from nothing again, and nothing is counted twice.
//
// It knows neither clocks nor files nor the kernel. The daemon asks the kernel,
// and keeps the book in a file in the form of [Book.Encode].
package accounting
