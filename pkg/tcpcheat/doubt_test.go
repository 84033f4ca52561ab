package tcpcheat

import (
	"testing"
	"time"
)

// A reset that does not fit what was seen here may be the end of data that
// passed unseen. It is not believed at once (RFC 5961 section 3.2); if silence
// follows it is, or the reservation would outlive its connection.
func TestResetBeyondWhatWasSeen(t *testing.T) {
	for _, mode := range []Mode{Realtime, Reliable} {
		l := newLab(t)
		p := labParams
		p.Mode = mode
		l.start(p)
		l.rcv(ack, 0, 60000, 0, 0, l.opts())
		const far = 20_000_000 // bytes into the stream
		if a := l.src(rst|ack, far, 0, nil); a != Accept {
			t.Fatalf("%v: the reset is not passed: %v", mode, a)
		}
		l.pass(doubtFor - time.Second)
		if s, ok := l.e.Flow(l.key); !ok || s.State != Cheated {
			t.Fatalf("%v: state %v after a reset that does not fit", mode, s.State)
		}
		l.pass(2 * time.Second)
		if s, ok := l.e.Flow(l.key); ok && s.State != Closed {
			t.Errorf("%v: state %v after a reset and silence", mode, s.State)
		}
	}
}
