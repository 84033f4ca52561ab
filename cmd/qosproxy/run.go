package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func (a *app) runCommand() *cobra.Command {
	o := runOptions{Version: version}
	cmd := &cobra.Command{
		Use: "run -c FILE", Short: "The daemon, in the foreground", Args: cobra.NoArgs,
		Long: "The daemon, in the foreground. SIGHUP reads the config file again, SIGTERM drains and ends.",
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("socket") || a.getenv(socketEnv) != "" {
				o.Socket = a.socket
			}
			return needConfig(o.ConfigFile)
		},
		RunE: verb(func(cmd *cobra.Command, _ []string) error {
			// The whole file is checked first, so that each error is a
			// line of its own; the daemon reads it again.
			if _, err := a.loadOrReport(o.ConfigFile); err != nil {
				return err
			}
			return a.rooms.run(cmd.Context(), o)
		}),
	}
	cmd.Flags().StringVarP(&o.ConfigFile, "config", "c", "", "config file")
	return cmd
}

func needConfig(file string) error {
	if file == "" {
		return errors.New("name the config file with -c FILE")
	}
	return nil
}
