// Package metrics gives the daemon's counters to Prometheus. It reads them
// from a console.Backend when it is asked, so that nothing is counted twice,
// and every label has a bounded set of values.
package metrics
