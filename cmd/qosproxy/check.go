package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/console"
)

// maxConfig is one byte more than config.Parse takes, so that it sees that a
// file is too large and says so.
const maxConfig = 1<<20 + 1

// load reads and validates a config file.
func load(path string) (c *config.Config, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("config file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig))
	if err != nil {
		return nil, fmt.Errorf("config file: %w", err)
	}
	return config.Parse(path, data)
}

// loadOrReport is load for verbs: each error of the file is a line of its own.
func (a *app) loadOrReport(path string) (*config.Config, error) {
	c, err := load(path)
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
		Long: "Validate a config file. Every error is printed as FILE:LINE:COL: message. Needs no root.",
		Args: cobra.ExactArgs(1),
		RunE: verb(func(_ *cobra.Command, args []string) error {
			c, err := a.loadOrReport(args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]any{"file": c.File, "ok": true, "interfaces": len(c.Interfaces), "policies": len(c.Policies)})
			}
			_, err = fmt.Fprintf(a.out, "%s: ok, %d interfaces, %d policies\n", c.File, len(c.Interfaces), len(c.Policies))
			return err
		}),
	}
}
