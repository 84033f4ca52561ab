package daemon

import (
	"errors"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/accounting"
	"github.com/qosproxy/qosproxy/pkg/byhand"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// passed is what the kernel shows of a row after so many packets of 100 bytes.
func passed(conform, exceed, dropped uint64) shaper.Counters {
	all := exceed + dropped // as the kernel counts: what is dropped exceeds
	return shaper.Counters{
		Packets: conform + all, Bytes: 100 * (conform + all), Conform: conform, ConformBytes: 100 * conform,
		Exceed: all, ExceedBytes: 100 * all, Dropped: dropped, DroppedBytes: 100 * dropped,
	}
}

func usage(conform, exceed, dropped uint64) accounting.Usage {
	n := func(packets uint64) accounting.Count { return accounting.Count{Packets: packets, Bytes: 100 * packets} }
	return accounting.Usage{Conform: n(conform), Exceed: n(exceed), Dropped: n(dropped)}
}

func accountRig(t *testing.T) rig {
	r := testControl(t)
	r.fake.counted = map[packet.FlowKey]shaper.Counters{}
	return r
}

func (r rig) records() (ended, running []accounting.Record) {
	r.account.read(func(b *accounting.Book, now time.Time) { ended, running = b.Ended(), b.Running(now) })
	return ended, running
}

// A flow that was counted before its reservation, and is counted after it: the
// record has what passed in between, by what it was found to be.
func TestAccountOfAReservation(t *testing.T) {
	r := accountRig(t)
	r.flows.first(time.Now(), tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:104", packet.FlagSYN), lan, wan)
	if err := r.count(t.Context(), plan.Treatment{Key: imagingKey, Interface: "wan0"}); err != nil {
		t.Fatal(err)
	}
	r.fake.counted[imagingKey] = passed(3, 0, 0)
	if refusal := r.Reserve(request(1, 1e6)); refusal != nil {
		t.Fatal(refusal)
	}
	r.fake.counted[imagingKey] = passed(8, 2, 1)
	change := request(1, 5e5)
	change.Change = true
	if refusal := r.Reserve(change); refusal != nil {
		t.Fatal(refusal)
	}
	k, _ := r.keeper(t, t.TempDir())
	k.look()
	if _, running := r.records(); len(running) != 1 || running[0].Usage != usage(5, 2, 1) || running[0].Rate != 5e5 || running[0].Style != "ff" || running[0].Policy != "imaging" || running[0].DSCP != 26 {
		t.Fatalf("%+v", running)
	}
	r.fake.counted[imagingKey] = passed(10, 2, 4)
	r.Release(1)
	if got := r.fake.have[imagingKey]; got.Reserve {
		t.Fatalf("%+v", got)
	}
	r.fake.counted[imagingKey] = passed(90, 2, 4) // nobody's any more
	k.look()
	ended, running := r.records()
	if len(ended) != 1 || len(running) != 0 || ended[0].Usage != usage(7, 2, 4) || ended[0].Why != whyReleased {
		t.Fatalf("%+v, %+v", ended, running)
	}
	p := ended[0].Parts
	if len(p) != 1 || p[0].Interface != "wan0" || p[0].User != (accounting.User{Kind: accounting.ByAddress, Name: "10.1.0.2"}) || p[0].Usage != usage(7, 2, 4) {
		t.Errorf("%+v", p)
	}
}

// A row that goes with its reservation has its last counts told, and one that is
// made anew begins from nothing.
func TestAccountOfARowThatGoes(t *testing.T) {
	r := accountRig(t)
	for range 2 {
		if refusal := r.Reserve(request(1, 1e6)); refusal != nil { // there is no other reason for the row
			t.Fatal(refusal)
		}
		r.fake.counted[imagingKey] = passed(6, 0, 0)
		r.flows.remove(imagingKey)
		r.Release(1)
		if len(r.fake.have) != 0 {
			t.Fatal("the row has not gone")
		}
	}
	if ended, _ := r.records(); len(ended) != 2 || ended[0].Usage != usage(6, 0, 0) || ended[1].Usage != usage(6, 0, 0) {
		t.Errorf("%+v", ended)
	}
}

// A reservation that takes over from one that was taken back (a style is changed so)
// has what passes from then on, and the other what passed before.
func TestAccountOfAStyleChange(t *testing.T) {
	r := accountRig(t)
	wf := request(1, 1e6)
	wf.Style = wire.WF
	if refusal := r.Reserve(wf); refusal != nil {
		t.Fatal(refusal)
	}
	r.fake.counted[imagingKey] = passed(4, 0, 0)
	r.Torn(1)
	r.fake.counted[imagingKey] = passed(5, 0, 0)
	if refusal := r.Reserve(request(2, 1e6)); refusal != nil {
		t.Fatal(refusal)
	}
	r.fake.counted[imagingKey] = passed(9, 0, 0)
	r.Release(2)
	ended, running := r.records()
	if len(ended) != 2 || len(running) != 0 || ended[0].Usage != usage(5, 0, 0) || ended[0].Style != "wf" || ended[0].Why != whyTorn || ended[1].Usage != usage(4, 0, 0) {
		t.Errorf("%+v, %+v", ended, running)
	}
}

// What could not be programmed has no record, and the reservation in place keeps
// its own.
func TestAccountOfAFailure(t *testing.T) {
	r := accountRig(t)
	r.fake.fail = errors.New("no room")
	if r.Reserve(request(1, 1e6)) == nil {
		t.Fatal("granted")
	}
	if ended, running := r.records(); len(ended)+len(running) != 0 {
		t.Errorf("%+v, %+v", ended, running)
	}
	r.fake.fail = nil
	if refusal := r.Reserve(request(2, 1e6)); refusal != nil {
		t.Fatal(refusal)
	}
	r.fake.counted[imagingKey] = passed(2, 0, 0)
	r.fake.fail = errors.New("no room")
	change := request(2, 2e5)
	change.Change = true
	if r.Reserve(change) == nil {
		t.Fatal("granted")
	}
	r.fake.counted[imagingKey] = passed(3, 0, 0)
	r.fake.fail = nil
	r.Release(2)
	if ended, _ := r.records(); len(ended) != 1 || ended[0].Usage != usage(3, 0, 0) || ended[0].Rate != 1e6 {
		t.Errorf("%+v", ended)
	}
}

// The branches of a flow to a group are one record.
func TestAccountOfAGroup(t *testing.T) {
	r := testControl(t)
	k := &byPlace{have: map[shaper.FlowID]plan.Treatment{}, counted: map[shaper.FlowID]shaper.Counters{}}
	r.kernel = k
	session, filter := sessionOf(groupKey)
	for id, out := range map[uint64]int{1: wan, 2: lan} {
		if refusal := r.Reserve(softstate.Reserve{
			ID: id, Session: session, Filters: []wire.Filter{filter}, Style: wire.FF, In: 7, Out: softstate.IfIndex(out), FlowSpec: spec(1e4), SenderTSpec: spec(1e4).TSpec,
		}); refusal != nil {
			t.Fatal(refusal)
		}
	}
	k.counted[shaper.FlowID{Interface: "wan0", Key: groupKey}] = passed(3, 0, 0)
	k.counted[shaper.FlowID{Interface: "lan0", Key: groupKey}] = passed(1, 1, 0)
	r.Release(2)
	if ended, running := r.records(); len(ended) != 0 || len(running) != 1 || running[0].Usage != usage(1, 1, 0) {
		t.Fatalf("%+v, %+v", ended, running)
	}
	r.Release(1)
	ended, _ := r.records()
	if len(ended) != 1 || ended[0].Usage != usage(4, 1, 0) || len(ended[0].Parts) != 2 {
		t.Errorf("%+v", ended)
	}
}

// RFC 3182: who the messages name pays; else who has made the reservation by hand;
// else the source. It may change while the reservation is in place.
func TestAccountOfAUserRFC3182(t *testing.T) {
	r := accountRig(t)
	ask := request(1, 1e6)
	if refusal := r.Reserve(ask); refusal != nil {
		t.Fatal(refusal)
	}
	r.fake.counted[imagingKey] = passed(1, 0, 0)
	k, _ := r.keeper(t, t.TempDir())
	k.look()
	r.flows.hand.put(byhand.Reservation{ID: 1, Flow: imagingKey, Owner: "alice"})
	if refusal := r.Reserve(ask); refusal != nil {
		t.Fatal(refusal)
	}
	r.fake.counted[imagingKey] = passed(3, 0, 0)
	k.look()
	ask.Identities = []softstate.Identity{
		{Said: wire.Identity{Type: wire.AuthApp}, Names: []string{"app"}},
		{Said: wire.Identity{Type: wire.AuthUser}, Names: []string{"CN=Joe"}},
	}
	if refusal := r.Reserve(ask); refusal != nil {
		t.Fatal(refusal)
	}
	r.fake.counted[imagingKey] = passed(7, 0, 0)
	r.Release(1)
	want := map[accounting.User]accounting.Usage{
		{Kind: accounting.ByAddress, Name: "10.1.0.2"}: usage(1, 0, 0),
		{Kind: accounting.ByOwner, Name: "alice"}:      usage(2, 0, 0),
		{Kind: accounting.ByIdentity, Name: "CN=Joe"}:  usage(4, 0, 0),
	}
	r.account.read(func(b *accounting.Book, now time.Time) {
		for _, s := range b.Users(now) {
			if want[s.User] != s.Usage {
				t.Errorf("%+v", s)
			}
			delete(want, s.User)
		}
	})
	if len(want) != 0 {
		t.Errorf("missing: %+v", want)
	}
}
