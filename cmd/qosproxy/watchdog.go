package main

import (
	"errors"
	"strconv"

	"github.com/spf13/cobra"
)

// watchdogVerb is what `run` starts itself with again.
const watchdogVerb = "watchdog"

// watchdogCommand is not for people, and not shown to them.
func (a *app) watchdogCommand() *cobra.Command {
	var level, format string
	cmd := &cobra.Command{
		Use: watchdogVerb + " PID", Short: "Looks after the daemon; started by run", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: verb(func(_ *cobra.Command, args []string) error {
			pid, err := strconv.Atoi(args[0])
			if err != nil || pid <= 0 {
				return errors.New("name the daemon's process number")
			}
			return a.rooms.watchdog(pid, level, format)
		}),
	}
	cmd.Flags().StringVar(&level, "level", "info", "of the log")
	cmd.Flags().StringVar(&format, "format", "auto", "of the log")
	return cmd
}
