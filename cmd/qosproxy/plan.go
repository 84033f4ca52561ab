package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) planCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "plan -c FILE", Short: "Print the kernel state that a config file asks for", Args: cobra.NoArgs,
		Long:    "Print the kernel state (nft and tc) that a config file asks for. Nothing is changed. Needs no root.",
		PreRunE: func(*cobra.Command, []string) error { return needConfig(file) },
		RunE: verb(func(*cobra.Command, []string) error {
			c, err := a.loadOrReport(file)
			if err != nil {
				return err
			}
			text, value, err := a.rooms.plan(c)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(value)
			}
			_, err = fmt.Fprint(a.out, text)
			return err
		}),
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "config file")
	return cmd
}
