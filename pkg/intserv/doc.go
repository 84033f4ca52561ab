// Package intserv is the arithmetic of the Integrated Services model: traffic
// descriptions (TSpec), requests (RSpec, FlowSpec) and path characterization
// (AdSpec), as RFC 2210, 2211, 2212 and 2215 define them.
//
// The package is pure: no clock, no IO, standard library only. Rates are bytes
// per second, bucket depths and packet sizes bytes of IP datagram (header
// included), delays microseconds where they are integers.
package intserv
