package daemon

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// Workers are asked at once: those that are silent cost the time of one, and what
// stands behind them in the list is heard all the same. A stop waits for no more.
func TestSilentWorkersCostTheTimeOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &cheatWorkers{}
		for i := range 4 {
			h := &cheatHandler{engine: tcpcheat.New(tcpcheat.Limits{}), wake: func() {}}
			if i%2 == 1 {
				h.wake = func() { h.open(time.Now()) }
			}
			w.handlers = append(w.handlers, h)
		}
		took := func(f func()) time.Duration {
			began := time.Now()
			f()
			return time.Since(began)
		}
		var list []snapshot
		if d := took(func() { list = w.snapshots(time.Second) }); d != time.Second {
			t.Errorf("asked for %s", d)
		}
		for i, s := range list {
			if silent := errors.Is(s.err, errSilent); silent != (i%2 == 0) {
				t.Errorf("worker %d: %v", i, s.err)
			}
		}
		own := 0
		if d := took(func() { own, _ = w.busy() }); d > workerTimeout || own != 2 {
			t.Errorf("busy: %d after %s; a silent one has connections for all one knows", own, d)
		}
		if d := took(w.abort); d > workerTimeout {
			t.Errorf("abort: %s", d)
		}
	})
}
