package tcpcheat

import (
	"slices"
	"testing"
	"time"
)

// A hole in front of the box is filled in part, and then the reservation goes: the
// box takes nothing new, and still owes the receiver what it has acknowledged.
func TestHoleFilledInPartIsDelivered(t *testing.T) {
	l := newLab(t)
	l.start(labParams)
	l.src(ack, 3000, 1448, l.opts()) // 3000 bytes before it were lost on the LAN
	l.src(ack, 0, 1000, l.opts())
	l.pass(300 * time.Millisecond)
	if got := l.stats().Unacked; got != 1000 {
		t.Fatalf("%d bytes acknowledged for the receiver", got)
	}
	l.e.Stop(l.now, l.key)
	var sent bool
	for _, s := range l.pass(3 * time.Second) {
		if s.to == ToReceiver && s.off == 0 && len(s.Payload()) == 1000 {
			sent = true
		}
	}
	if !sent {
		t.Error("what was acknowledged to the source was lost, and is not sent again")
	}
	l.rcv(ack, 1000, 64000, 0, 0, l.opts())
	l.pass(time.Second)
	if st := l.stats(); st.State != Watched || st.Buffered != 0 {
		t.Errorf("not given back: %+v", st)
	}
}

// Records of the flight stay in order and counted when one becomes two.
func TestFlightSplit(t *testing.T) {
	var f flight
	f.extend(1000, 1000, sent{})
	f.extend(6000, 1000, sent{flags: sentAbsent})
	f.extend(7000, 1000, sent{})
	f.setLost(6)
	f.present(3500, 9, 1)
	var ends []int
	for i := f.head; i != f.tail; i++ {
		ends = append(ends, int(f.at(i).end))
		if absent := f.at(i).flags&sentAbsent != 0; absent != (i >= 4 && i < 7) {
			t.Errorf("record %d: absent %v", i, absent)
		}
	}
	if want := []int{1000, 2000, 3000, 3500, 4000, 5000, 6000, 7000}; !slices.Equal(ends, want) || f.absent != 3 || f.lost != 1 {
		t.Errorf("records end at %v, want %v; %d absent, %d lost", ends, want, f.absent, f.lost)
	}
	if i, ok := f.nextLost(); !ok || i != 7 {
		t.Errorf("the lost one is %d, %v", i, ok)
	}
}
