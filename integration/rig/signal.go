package rig

import (
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// CloseOnSignal closes the rig when the process is told to end, and then lets
// the signal have its usual effect. The function returned undoes this.
//
// A program that handles signals itself needs only to call Close.
func (r *Rig) CloseOnSignal() (stop func()) {
	signals := make(chan os.Signal, 1)
	stopped := make(chan struct{})
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	go func() {
		select {
		case <-stopped:
		case received := <-signals:
			if err := r.Close(); err != nil {
				_, _ = os.Stderr.WriteString("rig: " + err.Error() + "\n")
			}
			signal.Reset(received)
			if number, ok := received.(unix.Signal); ok {
				_ = unix.Kill(os.Getpid(), number)
			}
		}
	}()
	return sync.OnceFunc(func() {
		signal.Stop(signals)
		close(stopped)
	})
}
