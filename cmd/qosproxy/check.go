package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/console"
	box "github.com/qosproxy/qosproxy/pkg/daemon"
)

// loadOrReport is load for verbs: each error of the file is a line of its own.
func (a *app) loadOrReport(path string) (*config.Config, error) {
	c, err := box.LoadConfig(path)
	if err == nil {
		return c, nil
	}
	list, ok := errors.AsType[config.Errors](err)
	if !ok {
		return nil, err
	}
	e := &console.Error{Code: "config", Message: fmt.Sprintf("%s has %d errors", path, len(list))}
	for _, one := range list {
		fmt.Fprintln(a.err, one.Error())
		e.Details = append(e.Details, one.Error())
	}
	if a.json {
		a.report(e)
	}
	return nil, errReported
}

func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use: "check FILE", Short: "Validate a config file",
		Long: "Validate a config file. Every error is printed as FILE:LINE:COL: message. What may be meant, and yet may not be what is expected, is printed as a problem, as status does later. Needs no root.",
		Args: cobra.ExactArgs(1),
		RunE: verb(func(_ *cobra.Command, args []string) error {
			c, err := a.loadOrReport(args[0])
			if err != nil {
				return err
			}
			problems := c.Problems()
			if a.json {
				return a.printJSON(map[string]any{
					"file": c.File, "ok": true, "interfaces": len(c.Interfaces), "policies": len(c.Policies), "problems": append([]string{}, problems...),
				})
			}
			if _, err := fmt.Fprintf(a.out, "%s: ok, %d interfaces, %d policies\n", c.File, len(c.Interfaces), len(c.Policies)); err != nil {
				return err
			}
			for _, p := range problems {
				if _, err := fmt.Fprintf(a.out, "%s: problem: %s\n", c.File, p); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}
