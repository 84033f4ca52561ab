package main

import (
	"errors"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/console/table"
)

// reduceCommand takes bandwidth away from a reservation in place (RFC 4495).
func (a *app) reduceCommand() *cobra.Command {
	var ask console.ReductionRequest
	var protocol, rate, peak string
	cmd := &cobra.Command{
		Use: "reduce DST --rate RATE", Short: "Take bandwidth away from a reservation, and leave the rest in place",
		Long: `Take bandwidth away from a reservation that is in place at this box, for another
one, and leave the rest in place (RFC 4495). Any reservation can be reduced:
whoever made it, and whether this box is at its end or in the middle. The flow keeps
its treatment with the rate that is left, the receiver is told and asks for no more.
After some refresh periods (the answer says how long) it may ask for all again, and
gets it if it is still free: what shall be used in its place has to be reserved by then.

DST is enough where this box has one reservation to it. Else name it by --proto,
--dport, --src, --sport and --interface.`,
		Example: `  qosproxy rsvp reduce 10.2.0.9 --rate 4mbit
  qosproxy rsvp reduce 239.1.2.3 --proto udp --dport 5004 --rate 500kbit --interface wan0`,
		Args: cobra.ExactArgs(1),
		PreRunE: func(_ *cobra.Command, args []string) error {
			if _, err := netip.ParseAddr(args[0]); err != nil {
				return errors.New("DST: write one IPv4 or IPv6 address")
			}
			if rate == "" {
				return errors.New("say what shall be left, such as --rate 4mbit")
			}
			if protocol != "" {
				if _, err := console.ParseProtocol(protocol); err != nil {
					return errors.Join(errors.New("--proto"), err)
				}
				ask.Protocol = console.Text(protocol)
			}
			ask.Dst, ask.Rate, ask.Peak = args[0], console.Text(rate), console.Text(peak)
			return nil
		},
		RunE: verb(func(cmd *cobra.Command, _ []string) error {
			done, err := console.NewClient(a.socket).Reduce(cmd.Context(), ask)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(done)
			}
			return table.Reduction(a.out, done)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&rate, "rate", "", "bandwidth that shall be left: r, or R of guaranteed service, such as 4mbit")
	f.StringVar(&peak, "peak", "", "peak rate that shall be left (default: as it is)")
	f.StringVar(&ask.Src, "src", "", "address of the sender")
	f.Uint16Var(&ask.Sport, "sport", 0, "its port")
	f.StringVar(&protocol, "proto", "", "protocol of the data: tcp, udp or a number")
	f.Uint16Var(&ask.Dport, "dport", 0, "port of the destination")
	f.StringVar(&ask.Interface, "interface", "", "the interface that the data leave by")
	return cmd
}
