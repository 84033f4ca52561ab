package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/byhand"
	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// handRetries bounds how many senders that could not be asked for are tried
// again in one sweep.
const handRetries = 1000

// handSignaller is RSVP as reservations by hand use it.
type handSignaller interface {
	signaller
	ReceiverChanged(session wire.Session, sender wire.Filter) error
}

// watchlist has the opening segments of single connections queued.
type watchlist interface {
	Watch(keys ...packet.FlowKey) error
	Unwatch(keys ...packet.FlowKey) error
}

// hands makes, keeps and ends the reservations by hand. To the rest of the box
// each is a policy for one flow that comes before all others (handTable), whose
// sender is spoken for without a packet of the flow (AddSender), and whose
// receiver as soon as there is a PATH (receiverProxy).
type hands struct {
	table *handTable
	file  handFile
	rsvp  handSignaller
	flows *flowTable
	links func() *links
	watch func() watchlist // nil until the rules are in place
	// moved has a flow decided anew whose policy is another one now.
	moved func(context.Context, packet.FlowKey)
	// route tells where packets to an address leave that another one has sent. It is
	// called under mu.
	route placer
	// mayMark and mayRemark tell why reservations may not have a code point, and what
	// exceeds them.
	mayMark   func(uint8) error
	mayRemark func(config.Excess) error
	now       func() time.Time
	told      func(change string, r byhand.Reservation)
	cheats    func() // a connection is about to be cheated; called without the lock
	log       *zap.Logger

	mu      sync.Mutex // one change at a time; held while the file is written
	book    *byhand.Book
	problem error // of the start
}

// load reads what an earlier process has kept.
func (h *hands) load(limit int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.book, h.problem = h.file.load(limit)
	if h.problem != nil {
		h.log.Warn("the daemon starts without them", zap.Error(h.problem))
	}
}

// claim makes state_dir this daemon's.
func (h *hands) claim() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.file.claim()
}

// restore makes again what was loaded. What is over is dropped.
func (h *hands) restore(ctx context.Context) {
	h.expire(ctx, h.now())
	h.prepare(h.list()...)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.book.List() {
		if err := h.begin(ctx, r); err != nil {
			h.log.Warn("reservation by hand", zap.Uint64("id", r.ID), zap.Stringer("flow", r.Flow), zap.Error(err))
			h.table.update(r.Flow, func(f *handFlow) { f.problem, f.lost = err.Error(), true })
		}
	}
	if n := h.book.Len(); n > 0 {
		h.log.Info("reservations made by hand are in force again", zap.Int("reservations", n))
	}
}

// add makes a reservation: in the file first, then in the box.
func (h *hands) add(ctx context.Context, r byhand.Reservation) (byhand.Reservation, error) {
	if r.Marked {
		if err := h.mayMark(r.DSCP); err != nil {
			return r, invalid([]error{fmt.Errorf("mark: %w: use another mark", err)})
		}
	}
	if err := h.mayRemark(excessOf(&r)); err != nil {
		return r, invalid([]error{fmt.Errorf("excess: %w: use another PHB, best-effort or drop", err)})
	}
	h.prepare(r)
	h.mu.Lock()
	defer h.mu.Unlock()
	r, err := h.book.Add(r)
	switch {
	case errors.Is(err, byhand.ErrTaken):
		return r, &console.Error{Status: http.StatusConflict, Code: "taken", Message: err.Error()}
	case errors.Is(err, byhand.ErrFull):
		return r, &console.Error{Status: http.StatusInsufficientStorage, Code: "full", Message: err.Error()}
	case err != nil:
		return r, invalid(sentences(err))
	}
	if _, _, err := h.sides(&r); err != nil {
		h.book.Remove(r.ID)
		return r, &console.Error{Status: http.StatusConflict, Code: "not_here", Message: err.Error()}
	}
	if err := h.file.save(h.book); err != nil {
		h.book.Remove(r.ID)
		return r, notKept(err)
	}
	if err := h.begin(ctx, r); err != nil {
		h.end(ctx, r)
		h.book.Remove(r.ID)
		return r, errors.Join(err, h.file.save(h.book))
	}
	h.log.Info("reserved by hand", zap.Uint64("id", r.ID), zap.Stringer("flow", r.Flow), zap.String("owner", r.Owner))
	h.told("made", r)
	return r, nil
}

// prepare has ready what cheating needs, if one of the reservations wants it: the first
// packets would else wait for that.
func (h *hands) prepare(list ...byhand.Reservation) {
	if slices.ContainsFunc(list, func(r byhand.Reservation) bool { return r.TCP != byhand.TCPNone }) {
		h.cheats()
	}
}

// wrongMarks tells of reservations whose mark would be refused today: it was given to
// others by a reload, or while the file was kept.
func (h *hands) wrongMarks() (out []string) {
	bad := 0
	for _, r := range h.list() {
		if !r.Marked {
			continue
		}
		if err := h.mayMark(r.DSCP); err != nil {
			if bad++; bad == 1 {
				out = append(out, fmt.Sprintf("the mark of reservation %d by hand would be refused today: %s", r.ID, err))
			}
		}
	}
	if bad > 1 {
		out[0] += fmt.Sprintf(" (and %d more)", bad-1)
	}
	return out
}

// remove ends a reservation.
func (h *hands) remove(ctx context.Context, id uint64) (byhand.Reservation, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, ok := h.book.Remove(id)
	if !ok {
		return r, noReservation(id)
	}
	if err := h.file.save(h.book); err != nil {
		h.book.Restore(r)
		return r, notKept(err)
	}
	h.end(ctx, r)
	h.log.Info("reservation by hand ended", zap.Uint64("id", r.ID), zap.Stringer("flow", r.Flow), zap.String("why", "released"))
	h.told("released", r)
	return r, nil
}

// expire ends what is over.
func (h *hands) expire(ctx context.Context, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.book.Expired(now)
	if len(list) == 0 {
		return
	}
	for _, r := range list {
		h.book.Remove(r.ID)
		h.end(ctx, r)
		h.log.Info("reservation by hand ended", zap.Uint64("id", r.ID), zap.Stringer("flow", r.Flow), zap.String("why", "expired"))
		h.told("expired", r)
	}
	if err := h.file.save(h.book); err != nil {
		// The next start finds them over and drops them.
		h.log.Warn("ended reservations are still in the file", zap.Error(err))
	}
}

// sweep ends what is over and asks again for what could not be had.
func (h *hands) sweep(ctx context.Context, now time.Time) {
	h.expire(ctx, now)
	for _, key := range h.table.failing(handRetries) {
		h.mu.Lock()
		if f, ok := h.table.get(key); ok && f.lost {
			h.speak(&f.Reservation)
		}
		h.mu.Unlock()
	}
}

// begin puts a reservation in force.
func (h *hands) begin(ctx context.Context, r byhand.Reservation) error {
	h.table.put(r)
	var err error
	if w := h.watch(); r.TCP != byhand.TCPNone && w != nil {
		if err = w.Watch(bothWays(r.Flow)...); err != nil {
			err = fmt.Errorf("its connection's first packets cannot be queued: %w", err)
		}
	}
	h.moved(ctx, r.Flow)
	if r.Side != byhand.Receiver {
		h.speak(&r)
	}
	return errors.Join(err, h.answer(r.Flow))
}

// answer has RSVP ask again whether the receiver is spoken for.
func (h *hands) answer(key packet.FlowKey) error {
	session, filter := sessionOf(key)
	return h.rsvp.ReceiverChanged(session, filter)
}

// errNoGroups says what softstate.ErrUnsupported means of a group.
var errNoGroups = errors.New("the kernel's multicast routes cannot be read: there are no sessions of groups")

// speak has RSVP speak for a reservation's sender, if that is behind this box.
func (h *hands) speak(r *byhand.Reservation) {
	sender, in, err := h.sides(r)
	note := func(problem string, lost, speaks bool) {
		h.table.update(r.Flow, func(f *handFlow) {
			if f.ID == r.ID {
				f.problem, f.lost, f.sender = problem, lost, speaks
			}
		})
	}
	if err != nil || !sender {
		problem := ""
		if err != nil {
			problem = err.Error()
		}
		note(problem, err != nil, false)
		return
	}
	note("", false, true)
	session, filter := sessionOf(r.Flow)
	refused := func(err error) {
		problem := err.Error()
		switch {
		case errors.Is(err, softstate.ErrSpeaksRSVP):
			problem = "the sender speaks RSVP itself: its own PATH is used"
		case errors.Is(err, softstate.ErrUnsupported) && toGroup(r.Flow):
			problem = errNoGroups.Error()
		}
		note(problem, true, true)
	}
	ask := softstate.Sender{
		Session: session, Filter: filter, TSpec: r.TSpec, In: softstate.IfIndex(in), Priority: priorityOf(handPolicy(r).Reserve),
	}
	if f, ok := h.flows.sender(r.Flow); ok {
		ask.TTL = pathTTL(&f)
	}
	if err := h.rsvp.AddSender(ask, refused); err != nil {
		refused(err)
	}
}

// end takes a reservation out of force. A policy that claims the flow takes
// over without a gap.
func (h *hands) end(ctx context.Context, r byhand.Reservation) {
	h.table.remove(r.Flow)
	if w := h.watch(); r.TCP != byhand.TCPNone && w != nil {
		if err := w.Unwatch(bothWays(r.Flow)...); err != nil {
			h.log.Warn("connection still watched for", zap.Stringer("flow", r.Flow), zap.Error(err))
		}
	}
	h.moved(ctx, r.Flow)
	session, filter := sessionOf(r.Flow)
	var err error
	// A row that is still this reservation's is about to go: its connection is
	// being given back to its ends.
	if f, ok := h.flows.sender(r.Flow); ok && f.policy != nil && !isByHand(f.policy) {
		err = h.rsvp.AddSender(softstate.Sender{
			Session: session, Filter: filter, TSpec: tspecOf(f.policy.Reserve.TSpec), In: softstate.IfIndex(f.in),
			TTL: pathTTL(&f), Priority: priorityOf(f.policy.Reserve),
		}, func(error) {})
	} else {
		err = h.rsvp.RemoveSender(session, filter)
	}
	if err = errors.Join(err, h.answer(r.Flow)); err != nil && !errors.Is(err, rsvpproxy.ErrStopped) {
		h.log.Warn("reservation by hand not ended", zap.Stringer("flow", r.Flow), zap.Error(err))
	}
}

// sides tells whether a reservation's sender is behind this box, and by which
// interface its packets come in; an error says why the box can speak for
// neither host that it was asked to.
func (h *hands) sides(r *byhand.Reservation) (sender bool, in int, err error) {
	src, srcErr := h.behind(r.Flow.SrcAddr(), r.Flow.DstAddr(), r.Side == byhand.Sender)
	if toGroup(r.Flow) {
		return h.groupSides(r, src, srcErr)
	}
	dst, dstErr := h.behind(r.Flow.DstAddr(), r.Flow.SrcAddr(), r.Side == byhand.Receiver)
	switch {
	case r.Side == byhand.Sender && srcErr != nil:
		return false, 0, fmt.Errorf("side sender: %w", srcErr)
	case r.Side == byhand.Receiver && dstErr != nil:
		return false, 0, fmt.Errorf("side receiver: %w", dstErr)
	case srcErr != nil && dstErr != nil:
		return false, 0, fmt.Errorf("this box can speak for neither host: %w; %w", srcErr, dstErr)
	case srcErr == nil && dstErr == nil && src == dst:
		return false, 0, fmt.Errorf("both hosts are behind %s: packets between them do not cross this box", h.links().name(src))
	}
	return srcErr == nil && r.Side != byhand.Receiver, src, nil
}

// groupSides is sides for a flow to a group. Its receivers are behind whatever
// interfaces of zone hosts the kernel forwards it to, now or later: that there
// may be some is enough.
func (h *hands) groupSides(r *byhand.Reservation, src int, srcErr error) (sender bool, in int, err error) {
	hosts := slices.ContainsFunc(h.links().list, func(l link) bool { return l.cfg.Zone == config.ZoneHosts })
	switch {
	case r.Side == byhand.Sender && srcErr != nil:
		return false, 0, fmt.Errorf("side sender: %w", srcErr)
	case !hosts:
		return false, 0, errors.New("this box has no interface of zone hosts: there are no receivers to speak for")
	case errors.Is(srcErr, errOurs), r.Side == byhand.Both && srcErr != nil && !errors.Is(srcErr, errElsewhere):
		return false, 0, srcErr
	}
	return srcErr == nil && r.Side != byhand.Receiver, src, nil
}

// What behind may find instead.
var (
	errOurs      = errors.New("is an address of this box, which speaks for the hosts behind it")
	errElsewhere = errors.New("is not behind this box")
)

// behind finds the hosts' interface behind which a host is. A bridge may not know it;
// named says that whoever reserves does: it is the only one.
func (h *hands) behind(a, peer netip.Addr, named bool) (index int, err error) {
	hop, err := h.route(a, peer)
	if errors.Is(err, errUnplaced) && named {
		if only := h.links().onlyHosts(); only != 0 {
			return only, nil
		}
	}
	if err != nil {
		return 0, err
	}
	l := h.links().byIndex[hop.Index]
	switch {
	case hop.Local:
		return 0, fmt.Errorf("%s %w", a, errOurs)
	case l == nil:
		return 0, fmt.Errorf("the route to %s leaves by an interface that the configuration does not have", a)
	case l.cfg.Zone != config.ZoneHosts:
		return 0, fmt.Errorf("%s %w: the route to it leaves by %s, which is in the zone network; reserve at the box there", a, errElsewhere, l.Name)
	}
	return hop.Index, nil
}

// gone notes that RSVP has no state of a flow's sender any more.
func (h *hands) gone(key packet.FlowKey) {
	h.table.update(key, func(f *handFlow) { f.lost = f.lost || f.sender })
}

// ofSender is RSVP for those who speak for a flow's sender by policy: a
// reservation by hand has precedence.
type ofSender struct {
	table *handTable
	rsvp  signaller
}

// AddSender asks with what was reserved by hand, if something was.
func (s ofSender) AddSender(a softstate.Sender, refused func(error)) error {
	// Under the lock, so that what is asked for last is what counts last.
	s.table.mu.RLock()
	defer s.table.mu.RUnlock()
	if f := s.table.m[flowKey(a.Session, a.Filter)]; f != nil && f.Side != byhand.Receiver {
		a.TSpec, a.Priority = f.TSpec, priorityOf(f.policy.Reserve)
	}
	return s.rsvp.AddSender(a, refused)
}

// RemoveSender keeps a sender that was reserved by hand.
func (s ofSender) RemoveSender(session wire.Session, sender wire.Filter) error {
	s.table.mu.RLock()
	defer s.table.mu.RUnlock()
	if f := s.table.m[flowKey(session, sender)]; f != nil && f.Side != byhand.Receiver {
		return nil
	}
	return s.rsvp.RemoveSender(session, sender)
}

// handID reads the id of a request.
func handID(s string) (uint64, error) {
	id, err := strconv.ParseUint(s, 10, 64)
	if err != nil || id == 0 {
		return 0, &console.Error{Status: http.StatusNotFound, Code: "no_reservation", Message: fmt.Sprintf("%q is no reservation's id, which is a number: GET /v1/reservations lists them", s)}
	}
	return id, nil
}

func handNumber(id uint64) string { return strconv.FormatUint(id, 10) }

// list returns all reservations, the oldest first.
func (h *hands) list() []byhand.Reservation {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.book.List()
}

// get finds a reservation.
func (h *hands) get(id uint64) (byhand.Reservation, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, ok := h.book.Get(id)
	if !ok {
		return r, noReservation(id)
	}
	return r, nil
}

func noReservation(id uint64) error {
	return &console.Error{Status: http.StatusNotFound, Code: "no_reservation", Message: fmt.Sprintf("there is no reservation %d by hand", id)}
}
