package integration

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lateness is what a machine with other work may add to a time.
const lateness = time.Second

// newcomer is a flow of numbered packets that is new to the boxes: until they know it,
// each of its packets goes through a queue.
type newcomer struct {
	id           uint64
	client       net.Conn
	server       *net.UDPConn
	sent         []time.Time
	got          map[uint64]time.Time
	first        uint64 // the number of what came first
	firstArrival time.Time
}

// newComer begins one, to a server that others may have used.
func (l *lab) newComer(t *testing.T, server *net.UDPConn) *newcomer {
	t.Helper()
	client := dialUDP(t, l.a, server.LocalAddr().(*net.UDPAddr).AddrPort())
	return &newcomer{id: uint64(time.Now().UnixNano()), client: client, server: server, got: map[uint64]time.Time{}}
}

func (p *newcomer) send(t *testing.T) {
	t.Helper()
	text := binary.BigEndian.AppendUint64(nil, p.id)
	text = binary.BigEndian.AppendUint64(text, uint64(len(p.sent)))
	if err := p.client.SetDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.client.Write(text); err != nil {
		t.Fatal(err)
	}
	p.sent = append(p.sent, time.Now())
}

// read takes what comes until everything has, at most for a while.
func (p *newcomer) read(t *testing.T, most time.Duration) {
	t.Helper()
	if err := p.server.SetReadDeadline(time.Now().Add(most)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	for len(p.got) < len(p.sent) {
		n, err := p.server.Read(buf)
		now := time.Now()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return
		case err != nil:
			t.Fatal(err)
		case n != 16 || binary.BigEndian.Uint64(buf) != p.id:
			continue // of an earlier one
		}
		number := binary.BigEndian.Uint64(buf[8:])
		if len(p.got) == 0 {
			p.first, p.firstArrival = number, now
		}
		p.got[number] = now
	}
}

// lost are those that have not come, of the packets sent from a time on.
func (p *newcomer) lost(from time.Time) int {
	n := 0
	for i, at := range p.sent {
		if _, ok := p.got[uint64(i)]; !ok && at.After(from) {
			n++
		}
	}
	return n
}

// waiting is how many packets are in the queues of a box, as the kernel says, and
// whether there are any queues.
func (b *box) waiting(t *testing.T) (n int, queues bool) {
	t.Helper()
	var text []byte
	if err := b.ns.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/netfilter/nfnetlink_queue")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		f := bytes.Fields(line)
		if len(f) < 3 {
			t.Fatalf("%q", line)
		}
		in, err := strconv.Atoi(string(f[2]))
		if err != nil {
			t.Fatal(err)
		}
		n, queues = n+in, true
	}
	return n, queues
}

// isQueued sends a packet that a box, which does nothing at present, gets to hold.
func (p *newcomer) isQueued(t *testing.T, b *box) {
	t.Helper()
	before, _ := b.waiting(t)
	p.send(t)
	eventually(t, 500*time.Millisecond, "a packet is queued", func() error {
		if n, _ := b.waiting(t); n <= before {
			return fmt.Errorf("%d, %d before", n, before)
		}
		return nil
	})
}

// isStopped tells whether a signal has stopped the program.
func (b *box) isStopped(t *testing.T) bool {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.proc.PID()))
	if err != nil {
		t.Fatal(err)
	}
	rest := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	return string(rest[0]) == "T"
}

// halt stops the program by a signal, and returns when that was sent.
func (b *box) halt(t *testing.T) time.Time {
	t.Helper()
	at := time.Now()
	b.signal(t, unix.SIGSTOP)
	eventually(t, time.Second, b.name+" is stopped", func() error {
		if !b.isStopped(t) {
			return errors.New("it runs")
		}
		return nil
	})
	return at
}

// figures are times of several trials.
type figures []time.Duration

// String is how docs/reliability.md has them.
func (f figures) String() string {
	if len(f) == 0 {
		return "none"
	}
	s := slices.Sorted(slices.Values(f))
	round := func(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }
	return fmt.Sprintf("%d trials, median %s, most %s", len(s), round(s[len(s)/2]), round(s[len(s)-1]))
}

// bound fails the test over any that is beyond what is promised, and over the median
// of many with less patience.
func (f figures) bound(t *testing.T, what string, promised time.Duration) {
	t.Helper()
	t.Logf("%s: %s", what, f)
	if m := slices.Sorted(slices.Values(f)); len(m) >= 5 && m[len(m)/2] > promised+lateness/10 {
		t.Errorf("%s: mostly %s, more than %s", what, m[len(m)/2], promised)
	}
	for _, d := range f {
		if d > promised+lateness {
			t.Errorf("%s: %s, more than %s and %s for a busy machine", what, d, promised, lateness)
		}
	}
}
