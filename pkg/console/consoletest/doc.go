// Package consoletest is a Backend with fixed content, for the tests of the
// API, of its tables and of its metrics.
package consoletest
