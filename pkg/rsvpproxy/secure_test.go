package rsvpproxy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/diag"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/integrity"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/reliable"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// pair are two boxes on one secured link.
type pair struct {
	t    *testing.T
	box  [2]*Proxy
	seen [2][][]byte // messages that each sent
	logs *observer.ObservedLogs
}

var pairAddr = [2]netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2")}

// half is the sending half of one box.
type half struct {
	p    *pair
	from int
}

func (w half) SendVia(b []byte, _ int) error {
	v, err := packet.Parse(b)
	if err == nil {
		w.p.seen[w.from] = append(w.p.seen[w.from], slices.Clone(v.Transport()))
	}
	return err
}

func sha256Key(id uint64, secret string) integrity.Key {
	return integrity.Key{ID: id, Algorithm: integrity.HMACSHA256, Secret: []byte(secret), Use: integrity.Both}
}

func security(keys ...integrity.Key) *Security { return &Security{Keys: keys, Handshake: true} }

func newPair(t *testing.T, cfg Config, a, b *Security) *pair {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	p := &pair{t: t, logs: logs}
	for i, s := range []*Security{a, b} {
		p.box[i] = New(cfg, Hooks{
			Send: half{p, i}, Log: zap.New(core), Event: func(softstate.Event) {},
			ReceiverProxy: func(softstate.PathInfo) (softstate.ReserveSpec, bool) { return softstate.ReserveSpec{}, false },
		})
		p.secure(i, s)
	}
	return p
}

func (p *pair) secure(box int, s *Security) {
	p.box[box].SetInterfaces([]Interface{{Link: route.Link{Index: 1, Name: "wan0", Addr4: pairAddr[box], MTU: 1500}, Security: s}})
}

// give hands a message to a box as if it came from the other one.
func (p *pair) give(to int, msg []byte) {
	p.box[to].receive(captured{at: time.Now(), iface: 1, src: pairAddr[1-to], dst: pairAddr[to], ttl: 255, message: slices.Clone(msg)})
}

// settle exchanges what the boxes sent until none has more to say.
func (p *pair) settle() {
	for n := 0; len(p.seen[0])+len(p.seen[1]) > 0; n++ {
		if n > 50 {
			p.t.Fatal("they never stop")
		}
		for i := range p.seen {
			list := p.seen[i]
			p.seen[i] = nil
			for _, m := range list {
				p.give(1-i, m)
			}
		}
	}
}

func (p *pair) counters(box int) integrity.Counters {
	v := p.box[box].security(time.Now())
	if v == nil {
		return integrity.Counters{}
	}
	return v.Counters
}

func (p *pair) tears(box int) uint64 { return p.box[box].node.Counters().In[wire.ResvTear] }

func tearTo(dst netip.Addr) softstate.Send {
	return softstate.Send{Out: 1, Src: pairAddr[0], Dst: dst, TTL: 255, Msg: &wire.Message{
		Type: wire.ResvTear, SendTTL: 255, Style: wire.WF, Hop: &wire.Hop{Addr: pairAddr[0]},
		Session: wire.Session{Dst: netip.MustParseAddr("10.2.0.2"), Protocol: 17, DstPort: 9},
	}}
}

// RFC 2747 section 4.3: what comes before the handshake is lost, the handshake
// follows, then all is accepted; a copy of a message never.
func TestSecuredLinkRFC2747Section4_3(t *testing.T) {
	p := newPair(t, Config{}, security(sha256Key(1, "s")), security(sha256Key(1, "s")))
	p.box[0].send(tearTo(pairAddr[1]))
	p.settle()
	if c := p.counters(1); p.tears(1) != 0 || c.Refused[integrity.Unproven] != 1 || c.Challenges != 1 || c.Handshakes != 1 {
		t.Fatalf("%d tears, %+v", p.tears(1), c)
	}
	p.box[0].send(tearTo(pairAddr[1]))
	copied := p.seen[0][0]
	p.settle()
	if p.tears(1) != 1 {
		t.Fatalf("%d tears, %+v", p.tears(1), p.counters(1))
	}
	p.give(1, copied)
	if c := p.counters(1); p.tears(1) != 1 || c.Refused[integrity.Replayed] != 1 {
		t.Errorf("%d tears, %+v", p.tears(1), c)
	}
}

// RFC 2747 section 4: on a secured interface nothing passes without INTEGRITY
// that is right; each kind has its counter, and the log is not flooded.
func TestRefusedRFC2747Section4(t *testing.T) {
	p := newPair(t, Config{}, nil, security(sha256Key(1, "s")))
	for range 50 {
		p.box[0].send(tearTo(pairAddr[1]))
	}
	p.settle()
	p.secure(0, security(sha256Key(1, "other")))
	p.box[0].send(tearTo(pairAddr[1]))
	p.settle()
	p.secure(0, security(sha256Key(2, "s")))
	p.box[0].send(tearTo(pairAddr[1]))
	p.settle()
	c := p.counters(1)
	if p.tears(1) != 0 || c.Refused[integrity.Unsigned] != 50 || c.Refused[integrity.BadDigest] != 1 || c.Refused[integrity.UnknownKey] != 1 {
		t.Errorf("%d tears, %v", p.tears(1), c.ByReason())
	}
	if n := p.logs.FilterMessage("rsvp message refused").FilterFieldKey("kind").Len(); n != 3 {
		t.Errorf("%d log lines, want one for each kind", n)
	}
}

// An interface without keys is as RFC 2205 has it, and takes signed messages.
func TestUnsecured(t *testing.T) {
	p := newPair(t, Config{}, security(sha256Key(1, "s")), nil)
	p.box[0].send(tearTo(pairAddr[1]))
	if e, err := wire.Open(p.seen[0][0]); err != nil || !e.Signed || len(e.Integrity.Digest) != 32 || !e.Integrity.Handshake() {
		t.Errorf("%+v, %v", e, err)
	}
	p.settle()
	if p.tears(1) != 1 || p.box[1].security(time.Now()) != nil {
		t.Errorf("%d tears, %+v", p.tears(1), p.counters(1))
	}
}

// RFC 2747 section 5.1: a reload that adds a key and one that takes the old one
// away disturb nothing; sequence numbers go on.
func TestReloadOfKeysRFC2747Section5_1(t *testing.T) {
	one, two := sha256Key(1, "s"), sha256Key(2, "t")
	p := newPair(t, Config{}, security(one), security(one))
	say := func(want uint64) {
		t.Helper()
		p.box[0].send(tearTo(pairAddr[1]))
		p.settle()
		if got := p.tears(1); got != want {
			t.Fatalf("%d tears, want %d: %v", got, want, p.counters(1).ByReason())
		}
	}
	say(0)
	say(1)
	one.Until, two.From = time.Now().Add(time.Hour), time.Now().Add(-time.Minute)
	p.secure(1, security(one, two))
	say(2) // the sender has the old key only
	p.secure(0, security(one, two))
	say(3) // in the first half of the overlap
	two.From = time.Now().Add(-2 * time.Hour)
	p.secure(0, security(one, two))
	say(3) // the new key, whose sender has to prove itself
	say(4)
	p.secure(0, security(two))
	p.secure(1, security(two))
	say(5)
	p.secure(0, nil)
	say(5)
	if c := p.counters(0); c.Signed != 7 || c.Responses != 2 || p.counters(1).Refused[integrity.Unsigned] != 1 {
		t.Errorf("%+v", c) // they are kept when the keys are gone
	}
}

// Neighbours named by the keys are challenged before their first message comes,
// so that this one is accepted.
func TestStartRFC2747Section4_3(t *testing.T) {
	k := sha256Key(1, "s")
	mine, yours := k, k
	mine.Peer, yours.Peer = pairAddr[1], pairAddr[0]
	p := newPair(t, Config{}, security(mine), security(yours))
	for _, b := range p.box {
		if _, ok := b.deadline(); !ok {
			t.Error("no deadline for the challenge")
		}
	}
	p.settle()
	p.box[0].send(tearTo(pairAddr[1]))
	p.settle()
	if p.tears(1) != 1 {
		t.Errorf("%d tears, %v", p.tears(1), p.counters(1).ByReason())
	}
}

// A challenge that is lost is repeated by the loop's timer.
func TestChallengeRepeatedRFC2747Section4_3(t *testing.T) {
	k := sha256Key(1, "s")
	k.Peer = pairAddr[1]
	p := newPair(t, Config{}, security(k), nil)
	first, ok := p.box[0].deadline()
	if !ok || len(p.seen[0]) != 1 {
		t.Fatalf("deadline %v, %d messages", ok, len(p.seen[0]))
	}
	p.box[0].tickGuards(first)
	if len(p.seen[0]) != 2 || wire.MsgType(p.seen[0][1][1]) != wire.IntegrityChallenge {
		t.Errorf("%d messages", len(p.seen[0]))
	}
	for range 10 {
		if at, ok := p.box[0].deadline(); ok {
			p.box[0].tickGuards(at)
		}
	}
	if c := p.counters(0); c.Challenges != 5 || c.GivenUp != 1 {
		t.Errorf("%+v", c)
	}
}

// Keys for certain neighbours: what is addressed to one is signed with its key,
// what is addressed to a session with that of the only one there is.
func TestKeyForNeighbourRFC2747Section4(t *testing.T) {
	k, other := sha256Key(1, "s"), sha256Key(2, "t")
	k.Peer, other.Peer = pairAddr[1], netip.MustParseAddr("10.9.0.3")
	p := newPair(t, Config{}, security(k, other), nil)
	id := func() uint64 {
		t.Helper()
		last := p.seen[0][len(p.seen[0])-1]
		e, err := wire.Open(last)
		if err != nil || !e.Signed {
			t.Fatalf("%+v, %v", e, err)
		}
		return e.Integrity.KeyID
	}
	p.box[0].send(tearTo(other.Peer))
	if got := id(); got != 2 {
		t.Errorf("key %d", got)
	}
	p.box[0].send(tearTo(pairAddr[1]))
	if got := id(); got != 1 {
		t.Errorf("key %d", got)
	}
	n := len(p.seen[0])
	p.box[0].send(tearTo(netip.MustParseAddr("10.9.0.4")))
	if len(p.seen[0]) != n || p.box[0].SendCounters().Errors != 1 {
		t.Error("a message without a key was sent")
	}
	p.secure(0, security(k))
	path := tearTo(netip.MustParseAddr("10.2.0.2"))
	path.RouterAlert = true
	path.Msg = &wire.Message{
		Type: wire.PathTear, SendTTL: 255, Hop: &wire.Hop{Addr: pairAddr[0]}, Session: path.Msg.Session,
	}
	p.box[0].send(path)
	if got := id(); got != 1 {
		t.Errorf("key %d", got)
	}
}

// RFC 2961 section 3.1: a Bundle has no INTEGRITY, each message in it has; what
// is forged is taken out, the rest passes.
func TestBundleSignedRFC2961Section3_1(t *testing.T) {
	cfg := Config{Reliable: true, Reduction: reliable.Config{BundleDelay: time.Millisecond}}
	p := newPair(t, cfg, security(sha256Key(1, "s")), security(sha256Key(1, "s")))
	bundle := func() []byte {
		m := &wire.Message{Type: wire.Bundle, Flags: 1, SendTTL: 255}
		for port := range uint16(3) {
			tear := tearTo(pairAddr[1]).Msg
			tear.Session.DstPort += port
			m.Bundle = append(m.Bundle, tear)
		}
		s := tearTo(pairAddr[1])
		s.Msg = m
		b, err := p.box[0].encode(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	p.give(1, bundle())
	p.settle() // the handshake
	if c := p.counters(1); c.Handshakes != 1 || p.tears(1) != 0 {
		t.Fatalf("%+v", c)
	}
	b := bundle()
	if err := wireErr(wire.Open(b)); err == nil {
		t.Error("the Bundle itself is signed")
	}
	if _, err := wire.Parse(b); err == nil {
		t.Error("a node without RFC 2961 reads a Bundle")
	}
	_, subs, err := wire.SplitBundle(b)
	if err != nil || len(subs) != 3 {
		t.Fatalf("%d, %v", len(subs), err)
	}
	var last uint64
	for _, sub := range subs {
		e, err := wire.Open(sub)
		if err != nil || !e.Signed || e.Integrity.Sequence <= last {
			t.Fatalf("%+v, %v", e, err)
		}
		last = e.Integrity.Sequence
	}
	subs[1][len(subs[1])-1] ^= 1
	wire.SetChecksum(subs[1])
	wire.SetChecksum(b)
	p.give(1, b)
	if c := p.counters(1); p.tears(1) != 2 || c.Refused[integrity.BadDigest] != 1 {
		t.Errorf("%d tears, %v", p.tears(1), c.ByReason())
	}
}

func wireErr(_ wire.Envelope, err error) error { return err }

// RFC 2961 section 4.6 and RFC 2747: a message that is repeated until it is
// acknowledged is signed anew each time, or its receiver would take it for a
// replayed one. Acknowledgments are signed, too.
func TestRetransmissionSignedAnew(t *testing.T) {
	p := newPair(t, Config{Reliable: true}, security(sha256Key(1, "s")), security(sha256Key(1, "s")))
	now := time.Now()
	p.box[0].sendAll(p.box[0].layer.Send(now, tearTo(pairAddr[1])))
	p.settle() // lost to the handshake
	for range 3 {
		at, ok := p.box[0].layer.NextDeadline()
		if !ok {
			break
		}
		p.box[0].advanceLayer(at)
		p.settle()
		if at, ok := p.box[1].layer.NextDeadline(); ok {
			p.box[1].advanceLayer(at)
		}
		p.settle()
	}
	if p.tears(1) != 1 || p.counters(1).Refused[integrity.Replayed] != 0 {
		t.Errorf("%d tears, %v", p.tears(1), p.counters(1).ByReason())
	}
	if r := p.box[0].layer.Counters(); r.Retransmitted == 0 || r.AcksIn == 0 {
		t.Errorf("%+v, %v", r, p.counters(0).ByReason())
	}
}

// A Bundle and a Srefresh of a secured interface leave room for INTEGRITY.
func TestRoomForIntegrity(t *testing.T) {
	p := newPair(t, Config{Reliable: true}, security(sha256Key(1, "s")), nil)
	if got := p.box[0].grows(1); got != 20+32 {
		t.Errorf("grows by %d", got)
	}
	if got := p.box[0].grows(2); got != 0 {
		t.Errorf("an interface without keys grows by %d", got)
	}
}

// RFC 2747 section 5.3: the last key goes on after its end, and that is told.
func TestStaleKeyRFC2747Section5_3(t *testing.T) {
	k := sha256Key(7, "s")
	k.Until = time.Now().Add(-time.Hour)
	p := newPair(t, Config{}, security(k), security(k))
	for range 3 {
		p.box[0].send(tearTo(pairAddr[1]))
		p.settle()
	}
	v := p.box[1].security(time.Now())
	if p.tears(1) != 2 || v.Counters.StaleAccepted != 2 || len(v.Stale) != 1 || v.Stale[0].Interface != "wan0" || !slices.Equal(v.Stale[0].Keys, []uint64{7}) {
		t.Errorf("%d tears, %+v", p.tears(1), v)
	}
	if n := p.logs.FilterMessageSnippet("the last key has ended").Len(); n != 2 {
		t.Errorf("%d log lines, want one of each box", n)
	}
}

// Security that cannot be used closes the interface instead of opening it.
func TestUnusableKeysCloseTheInterface(t *testing.T) {
	bad := security(integrity.Key{ID: 1})
	if err := bad.Check(); err == nil || !strings.Contains(err.Error(), "algorithm") {
		t.Errorf("%v", err)
	}
	p := newPair(t, Config{}, nil, bad)
	p.box[0].send(tearTo(pairAddr[1]))
	p.settle()
	if p.tears(1) != 0 {
		t.Error("an unsigned message passed")
	}
}

// RFC 2745 section 7, RFC 2747 section 4: a diagnostic message on a link with
// keys is signed by each hop like all others, and is nothing without.
func TestDiagnosticsAreSignedRFC2745Section7(t *testing.T) {
	p := newPair(t, Config{}, security(sha256Key(1, "s")), security(sha256Key(1, "s")))
	p.box[0].send(tearTo(pairAddr[1])) // begins the handshake
	p.settle()
	ask := func() *wire.Diag {
		return &wire.Diag{
			Type: wire.DiagRequest, SendTTL: 255, Session: wire.Session{Dst: pairAddr[1], Protocol: 17, DstPort: 9}, Hop: wire.Hop{Addr: pairAddr[0]},
			Diagnostic: wire.Diagnostic{
				PathMTU: 1500, LastHop: pairAddr[1], Sender: wire.Filter{Src: pairAddr[0], SrcPort: 8}, Requester: wire.Filter{Src: netip.MustParseAddr("192.0.2.200")},
			},
		}
	}
	p.box[0].sendDiag([]diag.Send{{Out: 1, Src: pairAddr[0], Dst: pairAddr[1], TTL: 255, Msg: ask()}})
	if len(p.seen[0]) != 1 {
		t.Fatalf("%d messages", len(p.seen[0]))
	}
	if e, err := wire.Open(p.seen[0][0]); err != nil || !e.Signed || e.Type != wire.DiagRequest {
		t.Errorf("%+v, %v", e, err)
	}
	p.settle()
	if n := p.box[1].diag.Counters(); n.RequestsIn != 1 || n.Malformed != 0 {
		t.Errorf("%+v", n)
	}
	plain, err := ask().Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	p.give(1, plain)
	if n := p.box[1].diag.Counters(); n.RequestsIn != 1 {
		t.Errorf("one without INTEGRITY was taken: %+v", n)
	}
}
