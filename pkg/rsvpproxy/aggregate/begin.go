package aggregate

import (
	"fmt"
	"math"
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/pipe"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// begin is an aggregate that begins here: this machine is its aggregator. Its PATH
// and its reservation are the machine's, as of any sender that it speaks for.
type begin struct {
	key       key // far: the deaggregator
	in        *Interior
	session   wire.Session
	sender    wire.Filter
	since     time.Time
	announced intserv.TSpec
	least     uint32            // the smallest m of those that are mapped to it
	installed *intserv.FlowSpec // nil: nothing yet
	mapped    int               // senders
	carried   map[uint64]*carried
	held      map[uint64]*carried // of carried: those that wait
	used      load                // of those that are granted
	idle      timer               // it ends
	over      timer               // those that have no room in it end
}

// beginOf finds or makes an aggregate. There may be no room for it, or its end may be
// none.
func (t *Table) beginOf(i *Interior, dst netip.Addr, dscp uint8) (b *begin, fresh bool) {
	k := key{i.Iface, dst, dscp}
	if b = t.begin[k]; b != nil {
		return b, false
	}
	src := t.net.AddrTowards(i.Iface, dst)
	switch {
	case !usable(dst, src) || t.net.Local(dst):
		t.count.Strange++
		return nil, false
	case len(t.begin) >= t.cfg.Aggregates:
		t.count.Full++
		return nil, false
	}
	b = &begin{
		key: k, in: i, since: t.now, least: leastUnit, carried: map[uint64]*carried{}, held: map[uint64]*carried{},
		session: wire.Session{Format: wire.FormatAggregate, Dst: dst, DSCP: dscp},
		sender:  wire.Filter{Format: wire.FormatAggregate, Src: src}, // our PHOP too, as RFC 4860 section 4 wants it
	}
	b.idle.Owner, b.over.Owner = b, b
	t.begin[k] = b
	t.announce(b)
	t.rest(b)
	return b, true
}

// announce brings the PATH of an aggregate up to date. Its TSpec is as large as the
// aggregate may ever become, so that the deaggregator alone sizes it, and flows that
// come and go change no PATH (RFC 3175 section 2.4).
func (t *Table) announce(b *begin) {
	spec := intserv.TSpec{
		Rate: b.in.Most, Bucket: b.in.Most, Peak: math.Inf(1), // a second's worth of bursts
		MinUnit: min(b.least, max(b.in.MTU, 1)), MaxPacket: b.in.MTU,
	}.Wire()
	if spec == b.announced {
		return
	}
	b.announced = spec
	t.emit(pipe.Announce{Sender: softstate.Sender{Session: b.session, Filter: b.sender, TSpec: spec}})
}

// rest lets an aggregate that nobody needs end after a while: the next flow may come
// soon (RFC 4860 section 4 leaves it to policy).
func (t *Table) rest(b *begin) {
	if b.mapped > 0 || len(b.carried) > 0 {
		t.timers.Stop(&b.idle)
	} else if !b.idle.Armed() {
		t.timers.Set(&b.idle, t.now.Add(b.in.Size.Hold))
	}
}

func (b *begin) fire(t *Table, which *timer) {
	switch {
	case which == &b.idle:
		t.endBegin(b)
	default:
		t.trim(b)
	}
}

// endBegin is the end of an aggregate, and of what is carried in it.
func (t *Table) endBegin(b *begin) {
	t.timers.Stop(&b.idle)
	t.timers.Stop(&b.over)
	delete(t.begin, b.key)
	for _, x := range t.entering {
		for _, e := range x.senders {
			if e.to == b {
				e.to = nil
			}
		}
	}
	b.mapped = 0
	why := softstate.Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth, Text: b.name() + " has ended"}
	t.lose(b, why)
	for _, c := range pipe.InOrder(b.held) {
		t.refuse(c, why)
	}
	t.emit(pipe.Silence{Session: b.session, Sender: b.sender})
}

func (b *begin) name() string {
	return fmt.Sprintf("the aggregate to %v with DSCP %d", b.key.far, b.key.dscp)
}

// changed follows the reservation of an aggregate.
func (t *Table) changed(v softstate.Event) {
	for _, b := range inKeyOrder(t.begin) {
		if b.session != v.Session.Key() || b.sender != v.Sender {
			continue
		}
		b.installed = nil
		if !v.Gone && v.Reservation != 0 {
			flow := v.FlowSpec
			b.installed = &flow
		}
		if b.installed == nil {
			why := softstate.Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth, Text: b.name() + " has no reservation"}
			if f := v.Failure; f != nil {
				why.Code, why.Value = f.Code, f.Value
			}
			if b.used.flows > 0 {
				t.lose(b, why)
			}
			continue
		}
		t.settle(b)
	}
}
