package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/console/table"
)

const accountingHelp = `What reservations carried, for how long and at which peak rate: those that have
ended and were not read yet, in the order of their ends, and those that run.

With --read the ended ones are printed, and struck out when that is done. What
could not be printed stays. A program that wants to be sure stores what it has
read first: it takes --ended --json, and then qosproxy accounting strike SERIAL with
the last serial that it has stored.`

func (a *app) accountingCommand() *cobra.Command {
	var ended, running, read bool
	cmd := &cobra.Command{
		Use: "accounting", Short: "What reservations and users carried", Long: accountingHelp, Args: cobra.NoArgs,
		RunE: verb(func(cmd *cobra.Command, _ []string) error {
			state := ""
			switch {
			case ended || read:
				state = console.AccountEnded
			case running:
				state = console.AccountRunning
			}
			return a.accounting(cmd.Context(), state, read)
		}),
	}
	f := cmd.Flags()
	f.BoolVar(&ended, "ended", false, "only those that have ended")
	f.BoolVar(&running, "running", false, "only those that run")
	f.BoolVar(&read, "read", false, "only those that have ended, and strike them out")
	cmd.MarkFlagsMutuallyExclusive("ended", "running")
	cmd.MarkFlagsMutuallyExclusive("read", "running")
	cmd.AddCommand(
		view(a, "users", "What each user carried", (*console.Client).AccountingUsers, table.AccountingUsers),
		a.strikeCommand(),
	)
	return cmd
}

func (a *app) accounting(ctx context.Context, state string, read bool) error {
	c := console.NewClient(a.socket)
	rows, err := c.Accounting(ctx, state)
	if err != nil {
		return err
	}
	if a.json {
		err = a.printJSON(rows)
	} else {
		err = table.Accounting(a.out, rows)
	}
	if err != nil || !read || len(rows) == 0 {
		return err
	}
	if s, ok := a.out.(interface{ Sync() error }); ok {
		_ = s.Sync() // a terminal or a pipe cannot be synced
	}
	_, err = c.AccountingRead(ctx, rows[len(rows)-1].Serial)
	return err
}

func (a *app) strikeCommand() *cobra.Command {
	var through uint64
	return &cobra.Command{
		Use: "strike SERIAL", Short: "Strike out the ended records up to one, which have been read",
		Args: func(_ *cobra.Command, args []string) (err error) {
			if len(args) != 1 {
				return fmt.Errorf("name the serial of the last record that was read")
			}
			if through, err = strconv.ParseUint(args[0], 10, 64); err != nil {
				return fmt.Errorf("%q is no serial: the first column of qosproxy accounting", args[0])
			}
			return nil
		},
		RunE: verb(func(cmd *cobra.Command, _ []string) error {
			done, err := console.NewClient(a.socket).AccountingRead(cmd.Context(), through)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(done)
			}
			_, err = fmt.Fprintf(a.out, "%d records struck out, %d left\n", done.Struck, done.Left)
			return err
		}),
	}
}
