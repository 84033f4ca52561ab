package nfq

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// kernel reads verdicts as the kernel does.
type kernel struct {
	t     testing.TB
	sends int
	log   []string
	fail  error // of the next send
}

func (k *kernel) send(iov []unix.Iovec) error {
	k.sends++
	if k.fail != nil {
		err := k.fail
		k.fail = nil
		return err
	}
	var b []byte
	for _, v := range iov {
		b = append(b, unsafe.Slice(v.Base, v.Len)...)
	}
	for len(b) > 0 {
		n := binary.NativeEndian.Uint32(b)
		if n%4 != 0 {
			k.t.Errorf("a message of %d bytes", n)
		}
		k.log = append(k.log, k.one(binary.NativeEndian.Uint16(b[4:]), b[nlHeaderLen:n]))
		b = b[n:]
	}
	return nil
}

func (k *kernel) one(typ uint16, body []byte) string {
	if q := binary.BigEndian.Uint16(body[2:]); q != 101 {
		k.t.Errorf("queue %d", q)
	}
	ad, err := netlink.NewAttributeDecoder(body[nfgenLen:])
	if err != nil {
		k.t.Fatal(err)
	}
	ad.ByteOrder = binary.BigEndian
	s := map[uint16]string{msgVerdict: "one", msgVerdictBatch: "upto"}[typ]
	for ad.Next() {
		switch v := ad.Bytes(); ad.Type() {
		case attrVerdictHdr:
			s += fmt.Sprintf(" %#x id=%d", binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:]))
		case attrMark:
			s += fmt.Sprintf(" mark=%d", binary.BigEndian.Uint32(v))
		case attrPayload:
			s += fmt.Sprintf(" data=%s", v)
		}
	}
	if ad.Err() != nil {
		k.t.Fatal(ad.Err())
	}
	return s
}

func (k *kernel) want(want ...string) {
	k.t.Helper()
	if diff := cmp.Diff(want, k.log); diff != "" {
		k.t.Error(diff)
	}
	k.log = nil
}

func TestVerdictRuns(t *testing.T) {
	k := &kernel{t: t}
	w := newVerdictWriter(101, 32, k.send)
	w.flush()
	k.want()
	w.accept(1)
	w.accept(2)
	w.drop(3)
	w.accept(4)
	w.verdict(5, nfAccept, 0, false, []byte("abcde"))
	w.accept(6)
	w.verdict(7, nfQueue|nfQueueBypass|102<<16, 9, true, nil)
	w.verdict(8, nfAccept, 3, true, []byte("abcd"))
	w.accept(9)
	w.flush()
	// The drop overtakes the run; everything else stands in its order.
	k.want("one 0x0 id=3", "upto 0x1 id=4", "one 0x1 id=5 data=abcde", "upto 0x1 id=6",
		"one 0x668003 id=7 mark=9", "one 0x1 id=8 mark=3 data=abcd", "upto 0x1 id=9")
	if k.sends != 1 {
		t.Errorf("%d sends", k.sends)
	}
	w.releaseAll(0xfffffff0)
	k.want("upto 0x1 id=1073741808")
}

// What the kernel refuses is released unchanged, and can be told.
func TestVerdictRescue(t *testing.T) {
	k := &kernel{t: t, fail: unix.ENOBUFS}
	w := newVerdictWriter(101, 32, k.send)
	w.accept(1)
	w.verdict(2, nfAccept, 0, false, []byte("abcde"))
	w.flush()
	k.want("upto 0x1 id=2")
	if w.errors != 1 || !errors.Is(w.err, unix.ENOBUFS) {
		t.Errorf("%d errors, %v", w.errors, w.err)
	}
}

// No message grows beyond what the socket takes, and the room never runs out.
func TestVerdictRoom(t *testing.T) {
	k := &kernel{t: t}
	w := newVerdictWriter(101, 4, k.send)
	data := make([]byte, maxPayload)
	for id := range uint32(20) {
		w.verdict(id, nfAccept, 1, true, data)
		if w.total > maxSend {
			t.Fatalf("%d bytes in one message", w.total)
		}
	}
	for id := range uint32(100) {
		w.drop(100 + id)
	}
	w.flush()
	if len(k.log) != 120 {
		t.Errorf("%d verdicts arrived, want 120", len(k.log))
	}
}

func TestSendable(t *testing.T) {
	v4, v6 := make([]byte, 60), make([]byte, 40)
	v4[0], v6[0] = 0x4f, 0x60
	for name, tt := range map[string]struct {
		data []byte
		want bool
	}{
		"empty": {nil, false}, "short": {v4[:19], false}, "header cut": {v4[:59], false}, "whole": {v4, true},
		"ipv6 short": {v6[:39], false}, "ipv6": {v6, true}, "no version": {make([]byte, 100), false},
		"too long": {append([]byte{0x45}, make([]byte, maxPayload)...), false},
	} {
		if got := sendable(tt.data); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestWithin(t *testing.T) {
	b := make([]byte, 10)
	if !within(b[:5], b) || !within(b[3:7], b) || within(make([]byte, 5), b) || within(nil, b) {
		t.Error("slices are not told apart")
	}
}

// handlerFunc is a Handler without timers.
type handlerFunc func(*Packet) Verdict

func (f handlerFunc) Handle(_ time.Time, p *Packet) Verdict { return f(p) }
func (handlerFunc) NextDeadline() (time.Time, bool)         { return time.Time{}, false }
func (handlerFunc) Advance(time.Time)                       {}
func (handlerFunc) Wake(time.Time)                          {}
func (handlerFunc) BatchEnd(time.Time)                      {}

// testWorker handles messages without any socket.
func testWorker(h Handler) *worker {
	q := &Queue{cfg: Config{Num: 101, Handler: h}.withDefaults()}
	return &worker{q: q, h: h, out: newVerdictWriter(101, 32, func([]unix.Iovec) error { return nil })}
}

func (w *worker) feed(b []byte) {
	_, err := parseMessage(b, &w.pkt, &w.msg)
	w.one(err)
	w.flush()
}

func TestPathAllocatesNothing(t *testing.T) {
	msg := packetMessage(101, header(7, 2), attribute{attrPayload, append([]byte{0x45}, make([]byte, 1400)...)})
	for _, v := range []Verdict{Accept, Drop, AcceptModified, Requeue} {
		w := testWorker(handlerFunc(func(p *Packet) Verdict { p.SetMark, p.HasSetMark = 1, true; return v }))
		if n := testing.AllocsPerRun(1000, func() { w.feed(msg) }); n != 0 {
			t.Errorf("%v: %v allocations for each packet", v, n)
		}
	}
}

func BenchmarkPath(b *testing.B) {
	msg := packetMessage(101, header(7, 2), attribute{attrInDev, word(3)}, attribute{attrOutDev, word(4)},
		attribute{attrPayload, append([]byte{0x45}, make([]byte, 1400)...)})
	for _, v := range []Verdict{Accept, AcceptModified} {
		b.Run(v.String(), func(b *testing.B) {
			w := testWorker(handlerFunc(func(*Packet) Verdict { return v }))
			b.ReportAllocs()
			for b.Loop() {
				w.feed(msg)
			}
		})
	}
}
