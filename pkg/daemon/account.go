package daemon

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/accounting"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper"
)

// Why a record has ended.
const (
	whyReleased = "the reservation has ended"
	whyTorn     = "its receivers have taken the reservation back"
	whyStopped  = "the daemon was stopped"
	whyLost     = "it was not asked for again after a restart of the daemon"
)

// maxUntold bounds the ended records that wait to be written into the log and the
// file.
const maxUntold = 100_000

// accounts is the book of what reservations carry. Traffic control tells it which
// row of the kernel serves which reservation, and the last counts of a row before
// it goes; in between a goroutine looks (accountkeep.go).
type accounts struct {
	mu     sync.Mutex // taken after traffic control's, never while the shaper is asked
	book   *accounting.Book
	untold []accounting.Record
	missed uint64      // there was no room in untold
	dirty  atomic.Bool // what is in state_dir is not all of it
	wake   chan struct{}
	now    func() time.Time
	// stopping: the daemon ends what ends now.
	stopping atomic.Bool
}

func newAccounts(b *accounting.Book) *accounts {
	return &accounts{book: b, wake: make(chan struct{}, 1), now: time.Now}
}

// do changes the book.
func (a *accounts) do(f func(b *accounting.Book, now time.Time)) {
	a.read(f)
	a.dirty.Store(true)
}

// read looks into the book.
func (a *accounts) read(f func(b *accounting.Book, now time.Time)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(a.book, a.now())
}

// tell has an ended record written into the log. a.mu is held.
func (a *accounts) tell(r *accounting.Record) {
	if r == nil {
		return
	}
	if len(a.untold) >= maxUntold {
		a.missed++
		return
	}
	a.untold = append(a.untold, *r)
	select {
	case a.wake <- struct{}{}:
	default: // it is awake
	}
}

func rowOf(iface string, key packet.FlowKey) accounting.Row {
	return accounting.Row{Interface: iface, Key: key}
}

// usageOf has what exceeds and what of that was dropped apart.
func usageOf(c shaper.Counters) accounting.Usage {
	return accounting.Usage{
		Conform: accounting.Count{Packets: c.Conform, Bytes: c.ConformBytes},
		Exceed:  accounting.Count{Packets: c.Exceed - min(c.Dropped, c.Exceed), Bytes: c.ExceedBytes - min(c.DroppedBytes, c.ExceedBytes)},
		Dropped: accounting.Count{Packets: c.Dropped, Bytes: c.DroppedBytes},
	}
}

// countedBefore is what a row has counted that does not serve a reservation yet:
// none of the reservation's. t.mu is held.
func (t *trafficControl) countedBefore(id uint64, iface string, key packet.FlowKey) accounting.Usage {
	known := false
	t.account.read(func(b *accounting.Book, _ time.Time) { known = b.Has(id, rowOf(iface, key)) })
	if known {
		return accounting.Usage{}
	}
	c, err := t.kernel.Counters(iface, key)
	if err != nil && !errors.Is(err, shaper.ErrNoFlow) {
		t.log.Warn("not all of a flow is accounted for", zap.Stringer("flow", key), zap.Error(err))
	}
	return usageOf(c)
}

// opened notes that a reservation is in place, or has changed. t.mu is held.
func (t *trafficControl) opened(r *reservation) {
	i := t.infoOf(r)
	users := make([]accounting.User, 0, len(r.keys))
	for _, key := range r.keys {
		users = append(users, t.chargedOf(r, key))
	}
	t.account.do(func(b *accounting.Book, now time.Time) {
		b.Open(now, r.id, accountKey(&r.ask), i)
		for n, key := range r.keys {
			row := rowOf(r.iface, key)
			if b.Has(r.id, row) {
				b.Charge(now, row, users[n])
				continue
			}
			b.Join(now, r.id, row, users[n], r.members[key].counted)
		}
	})
}

// leave notes that a row serves no reservation any more, though it may stay.
func (t *trafficControl) leave(iface string, key packet.FlowKey) {
	known := false
	t.account.read(func(b *accounting.Book, _ time.Time) { known = b.Serves(rowOf(iface, key)) })
	if !known {
		return
	}
	c, err := t.kernel.Counters(iface, key)
	if err == nil {
		t.taken(iface, key, c)
		return
	}
	if !errors.Is(err, shaper.ErrNoFlow) {
		t.log.Warn("not all of a flow is accounted for", zap.Stringer("flow", key), zap.Error(err))
	}
	t.account.do(func(b *accounting.Book, now time.Time) { b.Lose(now, rowOf(iface, key)) })
}

// taken notes the last counts of a row. One that was not there any more has none,
// and has told of what it had.
func (t *trafficControl) taken(iface string, key packet.FlowKey, c shaper.Counters) {
	t.account.do(func(b *accounting.Book, now time.Time) { b.Leave(now, rowOf(iface, key), usageOf(c)) })
}

// ended notes the end of a reservation. What still serves it, though another
// reservation of the flow is in place elsewhere, is read for the last time.
func (t *trafficControl) ended(id uint64, why string) {
	var rest []accounting.Row
	t.account.read(func(b *accounting.Book, _ time.Time) { rest = b.RowsOf(id) })
	for _, row := range rest {
		t.leave(row.Interface, row.Key)
	}
	if t.account.stopping.Load() && (why == whyReleased || why == whyTorn) {
		why = whyStopped
	}
	t.account.do(func(b *accounting.Book, now time.Time) { t.account.tell(b.Close(now, id, why)) })
}

// accountKey is the same for all that is one record: the branches to a group.
func accountKey(r *softstate.Reserve) string {
	if r.Style == wire.FF && len(r.Filters) == 1 {
		return fmt.Sprintf("%v from %v", r.Session, r.Filters[0])
	}
	return fmt.Sprintf("%v shared", r.Session)
}

// infoOf is what the record of a reservation says.
func (t *trafficControl) infoOf(r *reservation) accounting.Info {
	s := r.ask.Session
	i := accounting.Info{
		Dst: s.Dst, Protocol: s.Protocol, Dport: s.DstPort, Style: strings.ToLower(r.ask.Style.String()),
		Service: r.flow.Service.String(), DSCP: r.levels[0], Rate: r.flow.Bandwidth(),
	}
	if s.Format != wire.FormatPorts {
		i.Format = s.Format.String()
	}
	if r.ask.Style == wire.FF && len(r.ask.Filters) == 1 {
		f := r.ask.Filters[0]
		i.Src, i.Sport, i.SPI, i.Label = f.Src, f.SrcPort, f.SPI, f.Label
	}
	if len(r.keys) > 0 {
		i.DSCP = r.members[r.keys[0]].put.DSCP
		if p := t.flows.policyOf(r.keys[0]); p != nil {
			i.Policy = p.Name
		}
	}
	return i
}

// chargedOf is whom a flow's traffic is put down to: the user in whose account
// admission counts it, the one that the messages name (RFC 3182), the owner of a
// reservation by hand, or the source.
func (t *trafficControl) chargedOf(r *reservation, key packet.FlowKey) accounting.User {
	if r.user != "" {
		return accounting.User{Kind: accounting.ByName, Name: r.user}
	}
	for i := range r.ask.Identities {
		id := &r.ask.Identities[i]
		if !id.App() && len(id.Names) > 0 && (!t.config().Admission.Signed || t.links().secured(int(id.From))) {
			return accounting.User{Kind: accounting.ByIdentity, Name: id.Names[0]}
		}
	}
	if h, ok := t.flows.hand.get(key); ok && h.Owner != "" {
		return accounting.User{Kind: accounting.ByOwner, Name: h.Owner}
	}
	return accounting.User{Kind: accounting.ByAddress, Name: key.SrcAddr().String()}
}
