package traffic

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDistribution(t *testing.T) {
	var s samples
	if d := s.distribution(); d != (Distribution{}) {
		t.Errorf("of nothing: %+v", d)
	}
	for i := 100; i >= 1; i-- {
		s.add(time.Duration(i))
	}
	want := Distribution{Count: 100, Min: 1, P50: 50, P99: 99, P999: 100, P9999: 100, Max: 100, Mean: 50}
	if d := s.distribution(); d != want {
		t.Errorf("%+v, want %+v", d, want)
	}
}

func TestManySamplesKeepTheirShape(t *testing.T) {
	var s samples
	const n = 3*maxSamples + 17
	for i := range n {
		s.add(time.Duration(i))
	}
	if len(s.kept) > maxSamples {
		t.Fatalf("%d samples kept", len(s.kept))
	}
	d := s.distribution()
	if d.Count != n || d.Max != n-1 || (d.P50-n/2).Abs() > n/1000 || (d.P99-n*99/100).Abs() > n/1000 {
		t.Errorf("%+v of %d", d, n)
	}
}

// RFC 3550 6.4.1: J(i) = J(i-1) + (|D(i-1,i)| - J(i-1))/16.
func TestJitterRFC3550(t *testing.T) {
	var j jitter
	for _, transit := range []time.Duration{1000, 1160, 1160, 1000} {
		j.add(transit)
	}
	// 160/16 = 10; 10 - 10/16 = 10 (integers); 10 + 150/16 = 19.
	if j.value != 19 || j.max != 19 {
		t.Errorf("jitter %d, at most %d; want 19", j.value, j.max)
	}
}

func TestSeries(t *testing.T) {
	var s Series
	s.add(0, 100)
	s.add(Interval, 200)
	s.add(3*Interval+1, 400)
	if got := s.Bytes(Interval, 4*Interval); got != 600 {
		t.Errorf("%d bytes, want 600", got)
	}
	if got := s.Rate(0, 10*Interval); got != 5600 {
		t.Errorf("rate %v, want 5600: silence counts", got)
	}
	s.add(1000*time.Hour, 1)
	if len(s) != maxBuckets {
		t.Errorf("%d buckets, want at most %d", len(s), maxBuckets)
	}
}

func TestVerifierFindsTheFirstWrongByte(t *testing.T) {
	sent := make([]byte, 10_000)
	newContent(5).fill(sent)
	feed := func(seed uint64, data []byte) int64 {
		v := newVerifier(seed)
		for chunk := 1; len(data) > 0; chunk = chunk*3 + 1 {
			n := min(chunk, len(data))
			v.write(data[:n])
			data = data[n:]
		}
		return v.mismatch
	}
	if at := feed(5, sent); at != -1 {
		t.Errorf("right content is wrong at %d", at)
	}
	if at := feed(6, sent); at < 0 {
		t.Error("another seed's content is right")
	}
	changed := bytes.Clone(sent)
	changed[7_777] ^= 1
	if at := feed(5, changed); at != 7_777 {
		t.Errorf("first wrong byte %d, want 7777", at)
	}
	if at := feed(5, sent[1:]); at < 0 {
		t.Error("a missing byte goes unnoticed")
	}
}

func TestProbe(t *testing.T) {
	want := probe{seq: 1 << 40, sent: 123456789}
	b := make([]byte, probeSize)
	want.put(b)
	if got, ok := parseProbe(b); !ok || got != want {
		t.Errorf("%+v, %t; want %+v", got, ok, want)
	}
	for n := range b {
		if _, ok := parseProbe(b[:n]); ok {
			t.Errorf("%d bytes are a probe", n)
		}
	}
	b[0] ^= 1
	if _, ok := parseProbe(b); ok {
		t.Error("a foreign packet is a probe")
	}
}

func TestArrivalTimeIsTheKernels(t *testing.T) {
	const ago = 250 * time.Millisecond
	stamp := time.Now().Add(-ago)
	data := binary.NativeEndian.AppendUint64(nil, uint64(stamp.Unix()))
	data = binary.NativeEndian.AppendUint64(data, uint64(stamp.Nanosecond()))
	oob := make([]byte, unix.CmsgSpace(len(data)))
	binary.NativeEndian.PutUint64(oob, uint64(unix.CmsgLen(len(data))))
	binary.NativeEndian.PutUint32(oob[8:], unix.SOL_SOCKET)
	binary.NativeEndian.PutUint32(oob[12:], unix.SO_TIMESTAMPNS)
	copy(oob[16:], data)
	arrival := arrivalTime(oob)
	if got := time.Duration(monotonic() - arrival); got < ago || got > ago+200*time.Millisecond {
		t.Errorf("arrival %s ago, want %s", got, ago)
	}
	arrival = arrivalTime(nil)
	if got := time.Duration(monotonic() - arrival); got < 0 || got > 200*time.Millisecond {
		t.Errorf("without a stamp, arrival %s ago, want now", got)
	}
}

func TestStreamConfigIsChecked(t *testing.T) {
	for _, cfg := range []StreamConfig{
		{Payload: 10, Interval: 1, Duration: 1},
		{Payload: 100, Duration: 1},
		{Payload: 100, Interval: 1},
		{Payload: 100, Interval: 1, Duration: time.Hour},
	} {
		if _, err := Stream(t.Context(), cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}
