package integration

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

const (
	portPrecedence   = 5030 // the sender's box has no policy for it
	precedenceSource = 4030
)

const routineVoice = `
  - name: voice
    match: {protocol: udp, to_port: 5004}
    reserve: {role: both, service: controlled-load, tspec: {rate: 160kbit, burst: 8kB, max_packet: 400B}}
    mark: voice-admit
`

const precedenceRules = `
admission:
  users: [{name: chief}, {name: staff, from: 10.1.0.0/16, rate: 320kbit}]
  rules:
    - {name: precedence, match: {to: 10.2.0.0/16, user: chief}, priority: 9}
    - {name: routine, match: {user: staff}, services: controlled-load, rate: 200kbit, priority: 0}
`

// precedence are two edges with room for one call on the link between them.
func (l *lab) precedence(t *testing.T) {
	t.Helper()
	one := l.edge(0, routineVoice, precedenceRules)
	one.capacity = "375kbit" // 300 of it are reservable
	two := l.edge(1, routineVoice+"  - name: precedence\n    match: {protocol: udp, to_port: 5030-5400}\n"+
		"    reserve: {role: receiver, tspec: {rate: 160kbit, burst: 8kB, max_packet: 400B}}\n    mark: voice-admit\n", "")
	slow := func(c config) string { return strings.Replace(c.String(), "refresh: 1s", "refresh: 2500ms", 1) }
	l.startAll(t, slow(one), slow(two))
}

var reservationID = regexp.MustCompile(`reservation (\d+)`)

// reserveCall reserves for precedence voice by hand, and returns what is said of
// it and what ends it.
func (b *box) reserveCall(t *testing.T, owner, priority string) (text string, release func()) {
	t.Helper()
	_, stdout, stderr := b.cli(t,
		"reserve", "udp", fmt.Sprintf("%s:%d", addrA, precedenceSource), fmt.Sprintf("%s:%d", addrB, portPrecedence),
		"--bandwidth", "160kbit", "--burst", "8kB", "--max-packet", "400B", "--mark", "voice-admit", "--owner", owner, "--priority", priority,
	)
	text = stdout + stderr
	id := reservationID.FindStringSubmatch(text)
	if id == nil {
		t.Fatalf("%s: %s", b.name, text)
	}
	return text, func() {
		t.Helper()
		b.must(t, "release", id[1])
		b.waitNoSession(t, portPrecedence)
	}
}

// speak sends packets of voice until it is stopped.
func (l *lab) speak(t *testing.T, from uint16, to netip.AddrPort) (stop func()) {
	t.Helper()
	var c *net.UDPConn
	err := l.a.Do(func() (err error) {
		c, err = net.DialUDP("udp", &net.UDPAddr{IP: addrA.AsSlice(), Port: int(from)}, net.UDPAddrFromAddrPort(to))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
				_, _ = c.Write(make([]byte, 160)) // nobody listens: the host at the other end says so
			}
		}
	}()
	return func() {
		close(over)
		<-done
		_ = c.Close()
	}
}

// RFC 3181 and RFC 5865 section 2.3: precedence voice takes the place of routine
// voice. Routine is best effort at once, all boxes say why, and ResvErr and PathErr
// have it on the wire; who has no right to precedence gets none. When precedence
// has ended, routine has its reservation again.
func TestPrecedenceTakesThePlaceOfRoutineRFC3181(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	l.watch(t, leftWAN, rightWAN)
	rsvp := capture(t, l.boxes[0].ns, rightWAN, isRSVP)
	between := capture(t, l.boxes[1].ns, leftWAN, func(f []byte) bool { return toPort(portVoice)(f) || toPort(portPrecedence)(f) })
	l.precedence(t)
	near, far := l.boxes[0], l.boxes[1]
	end := l.talk(t, portVoice, 70*time.Second)
	routine := near.waitSession(t, portVoice, console.SessionReserved)
	far.waitSession(t, portVoice, console.SessionReserved)
	if users, err := near.Users(t.Context()); err != nil || routine.User != "staff" || len(users) != 2 || users[1].ReservedBPS != 160_000 || users[1].LimitBPS != 320_000 {
		t.Errorf("%+v, %+v, %v", routine, users, err)
	}
	marked := func(port uint16) func([]byte) bool {
		return func(f []byte) bool { return toPort(port)(f) && dscpOf(f) == dscp.VoiceAdmit }
	}
	waitFrame(t, between, "a marked packet of routine voice", marked(portVoice))

	// Somebody without the right, and then the same without precedence.
	text, release := near.reserveCall(t, "eve", "9")
	refused := near.waitSession(t, portPrecedence, console.SessionRejected)
	if !strings.Contains(refused.Error, "code 2 value 3") || !strings.Contains(refused.Error, "owner eve") {
		t.Errorf("%s\n%+v", text, refused)
	}
	release()
	text, release = near.reserveCall(t, "chief", "0")
	if full := near.waitSession(t, portPrecedence, console.SessionRejected); !strings.Contains(full.Error, "code 1 value 2") {
		t.Errorf("%s\n%+v", text, full)
	}
	release()
	if now := near.waitSession(t, portVoice, console.SessionReserved); now.Class != routine.Class {
		t.Errorf("routine was disturbed: %+v, was %+v", now, routine)
	}

	defer l.speak(t, precedenceSource, at(addrB, portPrecedence))()
	begin := time.Now()
	_, release = near.reserveCall(t, "chief", "9")
	if row := near.waitSession(t, portPrecedence, console.SessionReserved); row.User != "chief" {
		t.Errorf("%+v", row)
	}
	// Routine has lost its class and says to whom.
	lost := near.waitSession(t, portVoice, console.SessionRejected)
	if lost.Class != "" || !strings.Contains(lost.Error, "preempted by udp") || !strings.Contains(lost.Error, fmt.Sprintf(":%d", portPrecedence)) || !strings.Contains(lost.Error, "of user chief (priority 9)") {
		t.Errorf("%+v", lost)
	}
	near.waitFlow(t, portVoice, "best effort, with the reason", func(r console.FlowRow) bool {
		return r.State == console.FlowWatched && r.ReservedBPS == 0 && r.Class == "" && strings.Contains(r.Reason, "preempted by udp")
	})
	if row := far.waitSession(t, portVoice, console.SessionRejected); !strings.Contains(row.Error, "preempted by a reservation of priority 9") {
		t.Errorf("the receiver's box says %+v", row)
	}
	checkPreempted(t, rsvp, begin)

	// Best effort at once: on the link between the boxes there is no packet with
	// routine's mark after the first with precedence's, but for what was on its way;
	// and packets go on.
	waitFrame(t, between, "a marked packet of precedence voice", marked(portPrecedence))
	time.Sleep(time.Second) // to see enough of what must not be
	frames := captured(t, between)
	var first time.Time
	routineSince := 0
	for _, f := range frames {
		switch {
		case first.IsZero():
			if f.At.After(begin) && marked(portPrecedence)(f.Data) {
				first = f.At
			}
		case toPort(portVoice)(f.Data) && f.At.Sub(first) > 300*time.Millisecond:
			routineSince++
			if dscpOf(f.Data) == dscp.VoiceAdmit {
				t.Fatalf("routine voice still has its mark %v after precedence has it", f.At.Sub(first))
			}
		}
	}
	if routineSince == 0 {
		t.Error("routine voice does not arrive any more")
	}
	if st, err := near.Stats(t.Context()); err != nil || st.Admission.Preempted != 1 {
		t.Errorf("%+v %v", st.Admission, err)
	}

	release()
	for _, b := range l.boxes { // at the receiver's the error stays for Kb*R, 10 s
		eventually(t, 30*time.Second, b.name+": routine voice is reserved again", func() error {
			rows, err := b.Sessions(t.Context())
			for _, r := range rows {
				if r.Dport == portVoice && r.State == console.SessionReserved && r.Error == "" {
					return nil
				}
			}
			return fmt.Errorf("%+v %w", rows, err)
		})
	}
	end().check(t)
}

// checkPreempted looks for the errors on the wire: ResvErr with code 12, PathErr
// with that within code 36 (RFC 5946 section 3.1.1), both with the priority of the
// flow that has the place now.
func checkPreempted(t *testing.T, c *traffic.Capture, begin time.Time) {
	t.Helper()
	frames := captured(t, c)
	found := map[wire.MsgType]bool{}
	for _, f := range frames {
		m, err := message(f.Data)
		if err != nil || f.At.Before(begin) || m.Session.DstPort != portVoice || m.ErrorSpec == nil {
			continue
		}
		e := m.ErrorSpec
		ok := m.Type == wire.ResvErr && e.Code == wire.ErrPreempted || m.Type == wire.PathErr && e.Code == wire.ErrReceiverProxy && e.Value == 1<<8|uint16(wire.ErrPreempted)
		if !ok || len(m.Policy) != 1 {
			continue
		}
		p, err := wire.ParsePolicy(m.Policy[0])
		if err != nil {
			t.Fatal(err)
		}
		x, _ := p.Element(wire.PreemptionPriority)
		if pri, err := wire.ParsePreemption(x); err != nil || pri.Error != wire.PreemptionPreempted || pri.Priority != 9 {
			t.Errorf("%s: %+v %v", m.Type, pri, err)
		}
		found[m.Type] = true
	}
	if !found[wire.ResvErr] || !found[wire.PathErr] {
		t.Errorf("on the wire: %v", found)
	}
}

// named is a RESV that names a user (RFC 3182 section 4.1); "": nobody.
func named(t *testing.T, resv []byte, name string) []byte {
	t.Helper()
	m, err := wire.Parse(resv)
	if err != nil {
		t.Fatal(err)
	}
	if name != "" {
		e, err := wire.Identity{Type: wire.AuthUser, Attributes: []wire.AuthAttribute{
			{Type: wire.AuthPolicyLocator, SubType: wire.LocatorASCII, Value: []byte("CN=" + name + ",O=Acme")},
			{Type: wire.AuthCredential, SubType: wire.CredentialASCII, Value: []byte(name)},
		}}.Element()
		if err != nil {
			t.Fatal(err)
		}
		o, err := (&wire.PolicyData{Elements: []wire.PolicyElement{e}}).Object()
		if err != nil {
			t.Fatal(err)
		}
		m.Policy = []wire.Object{o}
	}
	b, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A receiver that speaks RSVP says who it is, and has what that user may have: who
// says nothing is told that a user has to be named, who is not known that this is
// not for him (RFC 2750 Appendix A, RFC 3182 section 3.3.4). The name goes on to
// the sender as it was said.
func TestReceiverIsKnownByNameRFC3182Section4_1(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	l.watch(t, leftWAN, rightWAN, lanIface)
	l.startAll(t, l.edge(0, "  []\n", "").String(), l.edge(1, "  []\n", `
admission:
  users: [{name: ann, identities: "CN=ann, O=Acme", rate: 800kbit}]
  rules: [{name: ann, match: {from: 10.1.0.0/16, in: wan0, out: lan0, user: ann}, services: controlled-load, rate: 200kbit}]
`).String())
	toA, toB := capture(t, l.a, hostIface, isRSVP), capture(t, l.b, hostIface, isRSVP)
	tspec := intserv.TSpec{Rate: 10_000, Bucket: 800, Peak: 20_000, MinUnit: 64, MaxPacket: 400}
	said := &wire.Message{
		Type: wire.Path, SendTTL: 64, Session: wire.Session{Dst: addrB, Protocol: 17, DstPort: portOther}, Hop: &wire.Hop{Addr: addrA, LIH: 5},
		TimeValues: &wire.TimeValues{Refresh: 1000}, SenderTemplate: &wire.Filter{Src: addrA, SrcPort: 4000}, SenderTSpec: &tspec,
	}
	b, err := said.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	answer(t, l.a, addrB, b)
	path, _ := waitMessage(t, toB, wire.Path)
	resv := resvOf(t, path, addrB, wire.FF)
	for _, tt := range []struct {
		name  string
		value uint16 // of code 2
	}{{"", wire.PolicyMissing}, {"eve", wire.PolicyRejected}} {
		stop := answer(t, l.b, path.Hop.Addr, named(t, resv, tt.name))
		waitFrame(t, toB, fmt.Sprintf("ResvErr with value %d", tt.value), func(f []byte) bool {
			m, err := message(f)
			if err != nil || m.Type != wire.ResvErr || m.ErrorSpec.Code != wire.ErrPolicy || m.ErrorSpec.Value != tt.value || len(m.Policy) != 1 {
				return false
			}
			p, err := wire.ParsePolicy(m.Policy[0])
			if err != nil {
				t.Fatal(err)
			}
			id, err := wire.ParseIdentity(p.Elements[0])
			if err != nil {
				t.Fatal(err)
			}
			value, text, told := id.PolicyError()
			name, _ := id.Value(wire.AuthCredential, wire.CredentialASCII)
			return tt.name == "" && len(id.Attributes) == 0 ||
				told && value == wire.AuthInsufficientPrivileges && string(name) == tt.name && strings.Contains(string(text), "no rule of admission")
		})
		stop()
		if row := l.boxes[1].waitSession(t, portOther, console.SessionRejected); row.User != "" {
			t.Errorf("%+v", row)
		}
	}
	stop := answer(t, l.b, path.Hop.Addr, named(t, resv, "ann"))
	defer stop()
	if row := l.boxes[1].waitSession(t, portOther, console.SessionReserved); row.User != "ann" || len(row.Identities) != 1 {
		t.Errorf("%+v", row)
	}
	l.boxes[0].waitSession(t, portOther, console.SessionReserved)
	got, _ := waitMessage(t, toA, wire.Resv)
	if want, err := wire.Parse(named(t, resv, "ann")); err != nil || len(got.Policy) != 1 || !slices.Equal(got.Policy[0].Body, want.Policy[0].Body) {
		t.Errorf("%v %v", got.Policy, err)
	}
}

// RFC 5865 section 2.2, the fourth of its MUSTs, on real links: scores of requests
// that are refused, for want of room and by policy, as fast as the box takes them, do
// not disturb a call that is there: every packet comes, in order and marked, in the
// class that it had.
func TestRFC5865Section2_2_StressOnTheWire(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	between := capture(t, l.boxes[1].ns, leftWAN, toPort(portVoice))
	l.precedence(t)
	near := l.boxes[0]
	end := l.talk(t, portVoice, 60*time.Second)
	was := near.waitSession(t, portVoice, console.SessionReserved)
	waitFrame(t, between, "a marked packet", func(f []byte) bool { return dscpOf(f) == dscp.VoiceAdmit })
	time.Sleep(200 * time.Millisecond) // what was on its way when it was reserved
	before := heardSo(t, between)

	const workers, each = 2, 40
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				owner, priority := "chief", uint16(0) // has the right to what there is no room for
				if i%2 == 0 {
					owner, priority = "eve", 9
				}
				row, err := near.Reserve(t.Context(), console.ReservationRequest{
					Protocol: console.Text("udp"), Src: addrA.String(), Sport: uint16(10000 + w*each + i), Dst: addrB.String(), Dport: uint16(portPrecedence + 1 + w*each + i),
					Rate: console.Text("160kbit"), Burst: console.Text("8kB"), MaxPacket: console.Text("400B"),
					Owner: owner, Priority: &console.Priority{Setup: priority, Hold: priority},
				})
				if err != nil {
					t.Errorf("reservation %d of %d: %v", i, w, err)
					return
				}
				if i%3 == 0 {
					if _, err := near.Release(t.Context(), row.ID); err != nil {
						t.Errorf("release of %s: %v", row.ID, err)
					}
				}
			}
		})
	}
	wg.Wait()
	eventually(t, 20*time.Second, "they are refused", func() error {
		st, err := near.Stats(t.Context())
		if err == nil && st.Admission.Refused < workers*each/2 {
			err = fmt.Errorf("%+v", st.Admission)
		}
		return err
	})
	st, err := near.Stats(t.Context())
	if err != nil || st.Admission.Granted != 1 || st.Admission.Preempted != 0 {
		t.Errorf("%+v %v", st.Admission, err)
	}
	now := near.waitSession(t, portVoice, console.SessionReserved)
	if now.Class != was.Class || now.Sport != was.Sport || now.AgeS < was.AgeS {
		t.Errorf("%+v, was %+v", now, was)
	}
	gapless(t, between, before, 50)
	end().check(t)
}
