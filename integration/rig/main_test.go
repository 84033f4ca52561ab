package rig

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// TestMain lets the test program play the processes that the tests start.
func TestMain(m *testing.M) {
	if role := os.Getenv("RIG_TEST_ROLE"); role != "" {
		if err := play(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func play(role string) error {
	switch role {
	case "rig": // makes a rig with a process in it, and waits to be killed
		r, err := New()
		if err != nil {
			return err
		}
		ns, err := r.Namespace("victim")
		if err != nil {
			return err
		}
		p, err := r.Start(ProcessConfig{NS: ns, Path: os.Args[0], Env: []string{"RIG_TEST_ROLE=sleep"}})
		if err != nil {
			return err
		}
		stop := r.CloseOnSignal()
		defer stop()
		fmt.Println(ns.Name(), p.PID())
		time.Sleep(time.Minute)
	case "sleep":
		time.Sleep(time.Minute)
	case "stubborn":
		ignoreTerm()
		fmt.Fprintln(os.Stderr, "ready")
		time.Sleep(time.Minute)
	case "socket":
		return serveSocket(os.Getenv("RIG_TEST_SOCKET"))
	case "debtor":
		return borrow()
	case "fail":
		return fmt.Errorf("namespaces: %v", netns.Dir)
	}
	return nil
}
