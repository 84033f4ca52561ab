package accounting

import (
	"cmp"
	"container/list"
	"slices"
	"time"
)

// users are the sums of all users. Who has nothing reserved makes room for others,
// the one that is longest so first; what they had is kept as that of others.
type users struct {
	limit  int
	byName map[User]*user
	idle   *list.List // of *user, the one that is longest so in front
	others *user
	folded uint64
}

type user struct {
	User
	meter   meter
	running int
	flows   uint64
	seconds float64
	at      time.Time     // until when seconds are right
	idle    *list.Element // nil: not idle
}

func newUsers(limit int) users {
	return users{limit: limit, byName: map[User]*user{}, idle: list.New(), others: &user{User: User{Kind: Others}}}
}

// join notes that a flow of a user is reserved from now on. It returns where that is
// added up: of who has no room, among the others.
func (s *users) join(now time.Time, u User) *user {
	o := s.byName[u]
	if o == nil && s.room() {
		o = &user{User: u}
		s.byName[u] = o
	}
	if o == nil {
		o = s.others
		s.folded++
	}
	o.advance(now)
	o.running++
	o.flows++
	if o.idle != nil {
		s.idle.Remove(o.idle)
		o.idle = nil
	}
	return o
}

// room makes it, if it can be had.
func (s *users) room() bool {
	for len(s.byName) >= s.limit {
		e := s.idle.Front()
		if e == nil {
			return false
		}
		o := e.Value.(*user)
		s.idle.Remove(e)
		delete(s.byName, o.User)
		s.others.meter.usage = s.others.meter.usage.Plus(o.meter.usage)
		s.others.flows += o.flows
		s.others.seconds += o.seconds
		s.others.meter.peak = max(s.others.meter.peak, o.meter.peak)
		s.folded++
	}
	return true
}

// leave notes that it is no longer.
func (s *users) leave(now time.Time, o *user) {
	o.advance(now)
	o.running--
	if o.running == 0 && o != s.others {
		o.idle = s.idle.PushBack(o)
	}
}

// advance brings the time of its flows up to now.
func (o *user) advance(now time.Time) {
	if !now.After(o.at) {
		return
	}
	if o.running > 0 {
		o.seconds += float64(o.running) * now.Sub(o.at).Seconds()
	}
	o.at = now
}

// Users lists the users by name, the others last.
func (b *Book) Users(now time.Time) []Sum {
	list := make([]Sum, 0, len(b.users.byName)+1)
	for _, o := range b.users.byName {
		list = append(list, b.sum(now, o))
	}
	slices.SortFunc(list, func(a, b Sum) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	if b.users.others.flows > 0 {
		list = append(list, b.sum(now, b.users.others))
	}
	return list
}

func (b *Book) sum(now time.Time, o *user) Sum {
	s := Sum{User: o.User, Running: o.running, Flows: o.flows, Seconds: o.seconds, Usage: o.meter.usage, Seen: o.at}
	d := time.Duration(0)
	if !b.opened.IsZero() {
		d = now.Sub(b.opened)
	}
	s.Peak = o.meter.peakAfter(d)
	if o.running > 0 {
		s.Seconds += float64(o.running) * max(0, now.Sub(o.at).Seconds())
		s.Seen = now
	}
	return s
}
