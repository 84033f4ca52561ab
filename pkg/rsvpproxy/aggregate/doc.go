// Package aggregate is RSVP aggregation (RFC 3175): between the router by which
// end-to-end sessions enter a region, the aggregator, and the one by which they
// leave it, the deaggregator, runs one RSVP session for each DSCP, the aggregate
// session, whose reservation is large enough for all of them. The routers inside
// see nothing of the sessions that it carries.
//
// It is pure. Like package tunnel it stands between the messages, the RSVP
// machine and traffic control.
package aggregate
