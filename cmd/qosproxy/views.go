package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/console/table"
)

func (a *app) viewCommands() []*cobra.Command {
	return []*cobra.Command{
		view(a, "status", "The daemon at a glance", (*console.Client).Status, table.Status),
		view(a, "flows", "Flows, one line per direction", (*console.Client).Flows, table.Flows),
		view(a, "sessions", "RSVP sessions", (*console.Client).Sessions, table.Sessions),
		view(a, "links", "Interfaces, their reservations and classes", (*console.Client).Links, table.Links),
		view(a, "policies", "Policies in the order in which they are tried", (*console.Client).Policies, table.Policies),
		view(a, "users", "Users whose reservations are counted together", (*console.Client).Users, table.Users),
		view(a, "stats", "Every counter", (*console.Client).Stats, table.Stats),
	}
}

// view is a verb that asks the daemon and prints the answer.
func view[T any](a *app, use, short string, get func(*console.Client, context.Context) (T, error), print func(io.Writer, T) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: verb(func(cmd *cobra.Command, _ []string) error {
			v, err := get(console.NewClient(a.socket), cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(v)
			}
			return print(a.out, v)
		}),
	}
}

func (a *app) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reload", Short: "Make the daemon read its config file again", Args: cobra.NoArgs,
		Long: "Make the daemon read its config file again. A file with an error changes nothing.",
		RunE: verb(func(cmd *cobra.Command, _ []string) error {
			st, err := console.NewClient(a.socket).Reload(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(st)
			}
			_, err = fmt.Fprintf(a.out, "%s is in use\n", st.ConfigFile)
			return err
		}),
	}
}
