package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/qosproxy/qosproxy/pkg/console"
)

const (
	defaultSocket = "/run/qosproxy.sock"
	socketEnv     = "QOSPROXY_SOCKET"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // the thing asked for failed
	exitUsage  = 2 // it was asked for in the wrong way
)

// app is one run of the program.
type app struct {
	out, err io.Writer
	getenv   func(string) string
	rooms    rooms
	socket   string
	json     bool
}

// failure marks the error of a verb that was called rightly; every other error
// is cobra's and means wrong usage.
type failure struct{ err error }

func (f failure) Error() string { return f.err.Error() }
func (f failure) Unwrap() error { return f.err }

// errReported is for verbs that have told what is wrong themselves.
var errReported = errors.New("reported")

func (a *app) execute(ctx context.Context, args []string) int {
	root := a.command()
	root.SetArgs(args)
	root.SetOut(a.out)
	root.SetErr(a.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	var f failure
	if !errors.As(err, &f) {
		// The flag may stand behind the mistake, where it was not parsed.
		a.json = a.json || slices.Contains(args, "--json")
		a.report(&console.Error{Code: "usage", Message: fmt.Sprintf("%v; see %s --help", err, cmd.CommandPath())})
		return exitUsage
	}
	if !errors.Is(err, errReported) {
		a.report(f.err)
	}
	return exitFailed
}

// report tells an error: as JSON on the standard output where JSON was asked
// for, as a line for people else.
func (a *app) report(err error) {
	if !a.json {
		fmt.Fprintf(a.err, "qosproxy: %v\n", err)
		return
	}
	e, ok := errors.AsType[*console.Error](err)
	if !ok {
		e = &console.Error{Code: "failed", Message: err.Error()}
	}
	// Where even this cannot be written, the exit code still tells.
	_ = a.printJSON(console.ErrorBody{Error: e})
}

func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// verb makes a cobra function of one that returns ordinary errors.
func verb(f func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := f(cmd, args); err != nil {
			return failure{err}
		}
		return nil
	}
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "qosproxy",
		Short: "RSVP reservations and TCP help for hosts that know nothing of QoS",
		Long: `qosproxy stands between hosts and the network. It makes RSVP reservations for
flows that its config file names, marks and shapes them in the kernel, and helps
their TCP connections to use what was reserved.

Exit codes: 0 success, 1 the thing asked for failed, 2 wrong usage.`,
		SilenceErrors: true, SilenceUsage: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q", args[0])
			}
			return errors.New("no command given")
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	socket := a.getenv(socketEnv)
	if socket == "" {
		socket = defaultSocket
	}
	root.PersistentFlags().StringVarP(&a.socket, "socket", "s", socket, "control socket of the daemon (env "+socketEnv+")")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON for programs")
	root.AddCommand(a.checkCommand(), a.reloadCommand(), a.versionCommand(), a.rsvpCommand())
	root.AddCommand(a.reserveCommand(), a.releaseCommand(), a.reservationsCommand(), a.accountingCommand())
	root.AddCommand(a.viewCommands()...)
	if a.rooms.run != nil {
		root.AddCommand(a.runCommand())
	}
	if a.rooms.watchdog != nil {
		root.AddCommand(a.watchdogCommand())
	}
	if a.rooms.plan != nil {
		root.AddCommand(a.planCommand())
	}
	if a.rooms.demo != nil {
		root.AddCommand(a.demoCommand())
	}
	return root
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: verb(func(*cobra.Command, []string) error {
			if a.json {
				return a.printJSON(map[string]string{"version": version})
			}
			_, err := fmt.Fprintln(a.out, "qosproxy", version)
			return err
		}),
	}
}
