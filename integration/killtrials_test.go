package integration

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// trials is how often a trial is repeated: a few times in `make test`, and as often
// as QOSPROXY_TRIALS says in `make reliability`.
func trials(t *testing.T, usual int) int {
	t.Helper()
	text := os.Getenv("QOSPROXY_TRIALS")
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("QOSPROXY_TRIALS=%q is not a number of trials", text)
	}
	return n
}

// What goes through the box in a trial, packets a second. None of it is cheated.
const (
	plainRate  = 14_500 // no policy has it
	markedRate = 5_000  // of one flow that is marked
	newRate    = 500    // of flows with one packet each, which is queued
	// mayBeLost is what a kill may cost, of all of that.
	mayBeLost = 128

	portStatic = 7001
	portNew    = 7002
	portBroken = 7003 // of connections that nobody may break
	trialTime  = 1500 * time.Millisecond
)

const killPolicies = usualPolicies + `
  - name: marked
    match: {protocol: udp, to_port: 7001}
    mark: af11
  - name: new
    match: {protocol: udp, to_port: 7002}
    mark: af12
`

// killed is what was seen in one trial.
type killed struct {
	plain, marked, news int64 // packets lost
	sent                int64
	reserved, unmarked  int // voice packets, and those of them without their mark
	after               time.Duration
	cheated             map[string]string // what became of cheated connections
}

func (k *killed) lost() int64 { return k.plain + k.marked + k.news }

// A box is killed under 20,000 packets a second: next to nothing of what it does not
// cheat is lost, no connection of that breaks, a reserved flow keeps its mark in every
// packet until the next process has it and beyond, and none that was cheated hangs.
func TestKilledUnderLoad(t *testing.T) {
	for _, f := range bothForms {
		t.Run(f.String(), func(t *testing.T) { killedUnderLoad(t, f) })
	}
}

func killedUnderLoad(t *testing.T, f form) {
	l := newMixedLab(t, []form{f, f}, nil)
	one, two := l.edge(0, killPolicies, ""), l.edge(1, usualPolicies, "")
	one.capacity, two.capacity = "300mbit", "300mbit" // nothing is lost for want of it
	l.startAll(t, one.String(), two.String())
	onWire := capture(t, l.boxes[0].ns, rightWAN, toPort(portVoice))
	doors := map[uint16]*net.TCPListener{}
	for _, port := range []uint16{portRealtime, portReliable, portBroken} {
		doors[port] = listen(t, l.b, at(addrB, port))
	}
	n := trials(t, 3)
	endVoice := l.talk(t, portVoice, time.Duration(n)*20*time.Second)
	l.boxes[0].waitSession(t, portVoice, console.SessionReserved)
	var all []killed
	for i := range n {
		k := l.killOnce(t, i, one.String(), doors, onWire)
		t.Logf("trial %d: lost %d of %d (plain %d, marked %d, of new flows %d); reserved packets without mark %d of %d; running again after %s; cheated: %v",
			i, k.lost(), k.sent, k.plain, k.marked, k.news, k.unmarked, k.reserved, k.after.Round(time.Millisecond), k.cheated)
		if k.lost() > mayBeLost || k.sent < 27_000 {
			t.Errorf("%d of %d packets are lost, more than %d", k.lost(), k.sent, mayBeLost)
		}
		if known := k.plain + k.marked; known > 0 && n >= 20 { // a busy machine loses some by itself
			t.Errorf("%d packets of flows that were known are lost", known)
		}
		if k.unmarked > 0 || k.reserved < 40 {
			t.Errorf("%d of %d packets of a reserved flow are without their mark", k.unmarked, k.reserved)
		}
		all = append(all, k)
	}
	endVoice().check(t)
	summary(t, f, all)
}

func summary(t *testing.T, f form, all []killed) {
	t.Helper()
	lost, after, ends := []int64{}, []time.Duration{}, map[string]int{}
	for i := range all {
		lost, after = append(lost, all[i].lost()), append(after, all[i].after)
		for _, end := range all[i].cheated {
			ends[end]++
		}
	}
	slices.Sort(lost)
	slices.Sort(after)
	n := len(all)
	t.Logf("%s, %d trials: lost median %d, most %d packets; running again after median %s, most %s; cheated connections: %v",
		f, n, lost[n/2], lost[n-1], after[n/2].Round(time.Millisecond), after[n-1].Round(time.Millisecond), ends)
}

// killOnce is one trial.
func (l *lab) killOnce(t *testing.T, n int, config string, doors map[uint16]*net.TCPListener, onWire *traffic.Capture) killed {
	t.Helper()
	b := l.boxes[0]
	k := killed{cheated: map[string]string{}}
	cheated := map[string]*longTransfer{}
	for i, c := range bothModes {
		source, sink := l.through(t, doors[c.port])
		cheated[c.name] = sendSlowly(source, sink, uint64(2*n+i), 1_500_000)
		sport := uint16(source.LocalAddr().(*net.TCPAddr).Port)
		b.waitFlow(t, sport, "cheated", func(r console.FlowRow) bool { return r.State == console.FlowCheated && r.FakeAcks > 3 })
	}
	var broken []*longTransfer
	for i := range 10 {
		source, sink := l.through(t, doors[portBroken])
		broken = append(broken, sendSlowly(source, sink, uint64(100+10*n+i), 200_000))
	}
	time.Sleep(100 * time.Millisecond)
	before := heardSo(t, onWire)

	var load sync.WaitGroup
	var plain, marked traffic.StreamResult
	var plainErr, markedErr, newErr error
	stream := func(port uint16, rate int) (traffic.StreamResult, error) {
		const every = 2 * time.Millisecond
		return traffic.Stream(t.Context(), traffic.StreamConfig{
			From: l.a, To: l.b, Remote: at(addrB, port), Payload: 64, Interval: every, Train: rate / int(time.Second/every), Duration: trialTime,
		})
	}
	var newSent int64
	load.Go(func() { plain, plainErr = stream(portOther, plainRate) })
	load.Go(func() { marked, markedErr = stream(portStatic, markedRate) })
	load.Go(func() { newSent, k.news, newErr = l.newFlows(n, trialTime) })

	time.Sleep(time.Duration(300+rand.IntN(200)) * time.Millisecond)
	b.kill(t)
	dead := time.Now()
	time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
	b.start(t, config)
	k.after = time.Since(dead)
	load.Wait()
	if err := errors.Join(plainErr, markedErr, newErr); err != nil {
		t.Fatal(err)
	}
	k.plain, k.marked = plain.Lost, marked.Lost
	k.sent = plain.Sent + marked.Sent + newSent
	for i, tr := range broken {
		if how := tr.wait(t, 20*time.Second); how != "whole" {
			t.Errorf("connection %d, which is not cheated: %s", i, how)
		}
	}
	for name, tr := range cheated {
		k.cheated[name] = tr.wait(t, 20*time.Second)
		if how := k.cheated[name]; how != "whole" && how != "reset at both ends" {
			t.Errorf("cheated, %s: %s", name, how)
		}
	}
	b.waitSession(t, portVoice, console.SessionReserved)
	k.unmarked, k.reserved = unmarked(t, onWire, before, dscp.VoiceAdmit)
	return k
}

// through connects A to a listener of B's, for longer than a trial takes.
func (l *lab) through(t *testing.T, door *net.TCPListener) (source, sink *net.TCPConn) {
	t.Helper()
	source, err := tryDial(t.Context(), l.a, door.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = source.Close() })
	if sink, err = door.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Close() })
	return source, sink
}

// newFlows sends packets each of which is a flow of its own, and counts those that
// do not arrive.
func (l *lab) newFlows(n int, d time.Duration) (sent, lost int64, err error) {
	var conn net.PacketConn
	if err := l.b.Do(func() (err error) {
		conn, err = net.ListenPacket("udp", at(addrB, portNew).String())
		return err
	}); err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	seen := make(chan int64, 1)
	go func() {
		got, buf := map[uint64]bool{}, make([]byte, 100)
		for {
			m, _, err := conn.ReadFrom(buf)
			if err != nil {
				seen <- int64(len(got))
				return
			}
			if m >= 8 {
				got[binary.BigEndian.Uint64(buf)] = true
			}
		}
	}()
	raw, err := traffic.OpenRaw(l.a)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, raw.Close()) }()
	const every = 5 * time.Millisecond
	for begin, next := time.Now(), 0; time.Since(begin) < d; time.Sleep(every) {
		for due := int(time.Since(begin).Seconds() * newRate); next < due; next++ {
			if err := raw.Send(newFlowPacket(n, next)); err != nil {
				return 0, 0, err
			}
			sent++
		}
	}
	time.Sleep(500 * time.Millisecond) // what is on its way
	err = conn.SetReadDeadline(time.Now())
	return sent, sent - <-seen, err
}

// newFlowPacket is a UDP packet whose source port nobody has used before.
func newFlowPacket(trial, i int) []byte {
	p := make([]byte, 20+8+16)
	p[0], p[8], p[9] = 0x45, 64, 17
	copy(p[12:], addrA.AsSlice())
	copy(p[16:], addrB.AsSlice())
	binary.BigEndian.PutUint16(p[20:], uint16(2000+(trial*2500+i)%30000)) // below those of the hosts
	binary.BigEndian.PutUint16(p[22:], portNew)
	binary.BigEndian.PutUint16(p[24:], 24)
	binary.BigEndian.PutUint64(p[28:], uint64(i))
	return p
}

// longTransfer is data that goes on while something happens to the box. Unlike
// transfer it may end by a reset.
type longTransfer struct {
	source, sink *net.TCPConn
	want         [32]byte
	sent, got    chan error
	sum          []byte
}

// sendSlowly writes data in pieces over a second and a half and half-closes, and reads
// the other end.
func sendSlowly(source, sink *net.TCPConn, seed uint64, size int) *longTransfer {
	data := random(seed, size)
	tr := &longTransfer{source: source, sink: sink, want: sha256.Sum256(data), sent: make(chan error, 1), got: make(chan error, 1)}
	go func() {
		const pieces = 70
		for piece := range slices.Chunk(data, (size+pieces-1)/pieces) {
			if _, err := source.Write(piece); err != nil {
				tr.sent <- err
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err := source.CloseWrite(); err != nil {
			tr.sent <- err
			return
		}
		_, err := io.Copy(io.Discard, source) // the end that the other says
		tr.sent <- err
	}()
	go func() {
		h := sha256.New()
		_, err := io.Copy(h, sink)
		tr.sum = h.Sum(nil)
		if err == nil {
			err = sink.CloseWrite()
		}
		tr.got <- err
	}()
	return tr
}

// wait says how it ended.
func (tr *longTransfer) wait(t *testing.T, most time.Duration) string {
	t.Helper()
	limit := time.After(most)
	var ends [2]string
	for i, c := range []chan error{tr.sent, tr.got} {
		select {
		case err := <-c:
			switch {
			case errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE):
				ends[i] = "reset"
			case err != nil:
				ends[i] = err.Error()
			}
		case <-limit:
			ends[i] = "hangs"
			limit = time.After(0)
		}
	}
	switch {
	case ends == [2]string{"reset", "reset"}:
		return "reset at both ends"
	case ends != [2]string{}:
		return strings.TrimSpace(fmt.Sprintf("source: %s; receiver: %s", ends[0], ends[1]))
	case !bytes.Equal(tr.sum, tr.want[:]):
		return "other bytes than those sent"
	}
	return "whole"
}
