package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/console/table"
)

// rsvpCommand is the group of verbs that show the protocol's own state.
func (a *app) rsvpCommand() *cobra.Command {
	group := &cobra.Command{
		Use: "rsvp", Short: "The state of RSVP itself",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("%s has no command %q", cmd.CommandPath(), args[0])
			}
			return errors.New("name what to show or do")
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	group.AddCommand(
		view(a, "neighbor", "Neighbours: when they were last heard, what they can, messages", (*console.Client).RSVPNeighbors, table.RSVPNeighbors),
		view(a, "sender", "Path state, one line per sender", (*console.Client).RSVPSenders, table.RSVPSenders),
		view(a, "reservation", "Reservation state, one line per request of a next hop", (*console.Client).RSVPReservations, table.RSVPReservations),
		view(a, "interface", "What RSVP does on each interface", (*console.Client).RSVPInterfaces, table.RSVPInterfaces),
		view(a, "counters", "Messages received and sent, and those that were not taken", (*console.Client).RSVPCounters, table.RSVPCounters),
		a.traceCommand(),
		a.reduceCommand(),
	)
	return group
}
