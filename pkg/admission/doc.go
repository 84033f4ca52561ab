// Package admission decides whether a link can take one more reservation, and
// keeps account of those it took.
//
// Controlled load is counted by its token rate r, guaranteed service by its
// service rate R, both with what the link layer adds to the packets. Each counts in
// several accounts at once, of which the link's is one, and is taken by all of
// them or by none. The [Ledger] that keeps them is exchangeable, so that several
// boxes may share one.
//
// The package is pure: it reads no clock and does no IO.
package admission
