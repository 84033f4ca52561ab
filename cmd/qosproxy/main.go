// Command qosproxy makes RSVP reservations for hosts that know nothing of
// QoS, and helps their TCP connections to use them.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	a := &app{out: os.Stdout, err: os.Stderr, getenv: os.Getenv, rooms: connected()}
	code := a.execute(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}
