package main

import (
	"errors"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/console/table"
)

// errNotComplete is told by the table or the JSON itself.
var errNotComplete = errors.Join(errReported, errors.New("the trace is not complete"))

// traceCommand asks the boxes on a session's way (RFC 2745).
func (a *app) traceCommand() *cobra.Command {
	var q console.TraceQuery
	cmd := &cobra.Command{
		Use: "trace DST", Short: "What every box on the way of a session knows of it",
		Long: `What every box on the way of a session knows of it, from the receiver's side to
the sender's: its interfaces and previous hop, the routers without RSVP in
between (GAP), the announced TSpec and what is reserved (r / b), the refresh
period R and K. The boxes tell it by the diagnostic messages of RFC 2745; AT is
the time since the request was sent, by the clock of each box.

DST is enough where this box knows one session to it. Else name the session by
--proto, --dport, --src and --sport; named in full, this box need not be on its way.
Exit code 1: the way could not be followed up to the sender, or the hop asked for.`,
		Args: cobra.ExactArgs(1),
		PreRunE: func(cmd *cobra.Command, args []string) (err error) {
			values := url.Values{"dst": args}
			for flag, key := range map[string]string{
				"src": "src", "sport": "sport", "proto": "protocol", "dport": "dport", "last-hop": "last_hop",
				"max-hops": "max_hops", "timeout": "timeout", "attempts": "attempts", "hop-by-hop": "hop_by_hop",
			} {
				if cmd.Flags().Changed(flag) {
					values.Set(key, cmd.Flags().Lookup(flag).Value.String())
				}
			}
			q, err = console.ParseTraceQuery(values)
			return err
		},
		RunE: verb(func(cmd *cobra.Command, _ []string) error {
			t, err := console.NewClient(a.socket).Trace(cmd.Context(), q)
			if err != nil {
				return err
			}
			if a.json {
				err = a.printJSON(t)
			} else {
				err = table.Trace(a.out, t)
			}
			if err == nil && !t.Complete {
				err = errNotComplete
			}
			return err
		}),
	}
	text := func(name, usage string) { cmd.Flags().String(name, "", usage) }
	text("src", "address of the sender")
	text("sport", "its port")
	text("proto", "protocol of the data: tcp, udp or a number")
	text("dport", "port of the destination")
	text("last-hop", "box to begin at (default: the last one in front of DST)")
	text("max-hops", "how many boxes to ask (default: all)")
	text("timeout", "time for one attempt, such as 500ms (default 1s)")
	text("attempts", "attempts before boxes are asked one by one (default 3)")
	cmd.Flags().Bool("hop-by-hop", false, "have the reply come back from box to box, through firewalls between them")
	return cmd
}
