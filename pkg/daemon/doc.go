// Package daemon is the supervisor: it builds the rooms from the configuration,
// joins the way of a packet with the way of a reservation, and takes all down
// again.
//
// The engines never meet except here. The flow table (flows.go) is the one
// place that knows what becomes of a flow and why; the handlers of the queues
// (first.go, cheat.go, control.go) and traffic control (reserve.go) ask it and
// tell it.
package daemon
