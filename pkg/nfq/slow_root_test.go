package nfq_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/nfq"
)

// Packets that were read together go on while the last of them is still looked at,
// if that takes long: each is late by its own time, and one that has gone cannot be
// lost with the process.
func TestSlowHandlerAnswersEarly(t *testing.T) {
	l := newLab(t)
	l.rules(t)
	held := make(chan struct{})
	last := make(chan struct{}, 1)
	n := 0
	l.queue(t, nfq.Config{Num: 101, GSO: true, Handler: &handler{handle: func(*nfq.Packet) nfq.Verdict {
		switch n++; n {
		case 1:
			<-held // until the others are in the queue behind it
		case 20:
			last <- struct{}{}
			time.Sleep(2 * time.Second)
		default:
			time.Sleep(2 * time.Millisecond)
		}
		return nfq.Accept
	}}})
	u := l.udp(t, dstAddr)
	for i := range 20 {
		u.send(t, fmt.Sprint(i))
	}
	close(held)
	<-last
	for i := range 18 { // the one before the last may wait for it
		if got := u.receive(t, 500*time.Millisecond); got != fmt.Sprint(i) {
			t.Fatalf("while packet 19 is looked at: got %q, want %d", got, i)
		}
	}
}
