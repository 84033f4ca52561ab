package rsvpproxy

import (
	"crypto/rand"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/integrity"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Security is the authentication of RSVP messages on an interface (RFC 2747).
type Security struct {
	Keys []integrity.Key
	// Handshake: a neighbour proves that it is alive before its first message is
	// accepted. AcceptUnwilling takes those that cannot do that all the same.
	Handshake, AcceptUnwilling bool
	// Window is how many messages may be overtaken, in sequence numbers.
	Window int
}

// Check says what is wrong with s.
func (s *Security) Check() error {
	_, err := integrity.New(s.config(make([]byte, secretSize), 0))
	return err
}

const secretSize = 32 // bytes of the local secret behind challenge cookies

// leastAssociations are kept however few neighbours there may be.
const leastAssociations = 1024

func (s *Security) config(secret []byte, neighbors int) integrity.Config {
	return integrity.Config{
		Keys: s.Keys, Window: s.Window, Handshake: s.Handshake, AcceptUnwilling: s.AcceptUnwilling,
		Secret: secret, Answer: true, TTL: handshakeTTL,
		MaxAssociations: max(leastAssociations, 2*neighbors), // two keys of each while they change
	}
}

const handshakeTTL = 255

// guards are the secured interfaces. They belong to the event loop.
type guards struct {
	by     map[int]*guard // by interface index
	of     *interfaces    // that by was made for
	secret []byte
	ever   bool               // something was secured since the start
	gone   integrity.Counters // of interfaces that are secured no more
}

// guard is one secured interface.
type guard struct {
	name string
	sec  Security // without its keys
	link *integrity.Link
	told time.Time // that a key has ended
}

// staleEvery is how often a key that has ended is complained of.
const staleEvery = 10 * time.Minute

// secured returns the secured interfaces as they are to be now.
func (p *Proxy) secured() map[int]*guard {
	if set := p.ifaces.Load(); set != p.guards.of {
		p.reguard(time.Now(), set)
	}
	return p.guards.by
}

// guard returns the authentication on an interface, nil if it is not secured.
func (p *Proxy) guard(iface int) *guard { return p.secured()[iface] }

// reguard takes over a new set of interfaces. One that stays secured in the same
// way keeps its sequence numbers and its associations (RFC 2747 section 5.1).
func (p *Proxy) reguard(now time.Time, set *interfaces) {
	g := &p.guards
	old := g.by
	g.of, g.by = set, map[int]*guard{}
	for index, i := range set.byIndex {
		if i.Security == nil {
			continue
		}
		g.ever = true
		was := old[index]
		if was != nil && was.keeps(i) {
			if err := was.link.SetKeys(i.Security.Keys); err != nil {
				p.hooks.Log.Error("keys not changed: the old ones stay", zap.String("interface", i.Name), zap.Error(err))
			}
			g.by[index] = was
			delete(old, index)
			p.challenge(now, index, was)
			continue
		}
		n := p.newGuard(i)
		if was != nil { // whatever the clock does
			n.link.RestoreSequences(was.link.LastSequences())
		}
		g.by[index] = n
		p.challenge(now, index, n)
	}
	for _, was := range old {
		c := was.link.Counters()
		g.gone.Add(&c)
	}
}

// keeps says whether the guard is right for what an interface has become, but
// for the keys.
func (g *guard) keeps(i Interface) bool {
	s := i.Security
	return g.name == i.Name && g.sec.Handshake == s.Handshake && g.sec.AcceptUnwilling == s.AcceptUnwilling && g.sec.Window == s.Window
}

func (p *Proxy) newGuard(i Interface) *guard {
	if p.guards.secret == nil {
		p.guards.secret = make([]byte, secretSize)
		_, _ = rand.Read(p.guards.secret) // never fails: crypto/rand ends the process instead
	}
	link, err := integrity.New(i.Security.config(p.guards.secret, p.cfg.Node.Limits.Neighbors))
	if err != nil {
		// Never without authentication: with no key at all nothing passes.
		p.hooks.Log.Error("interface closed for RSVP: its keys cannot be used", zap.String("interface", i.Name), zap.Error(err))
		link, _ = integrity.New(integrity.Config{}) // has nothing that could be wrong
	}
	g := &guard{name: i.Name, link: link, sec: *i.Security}
	g.sec.Keys = nil
	return g
}

// challenge has the neighbours that are known by their keys prove themselves,
// before their first message comes.
func (p *Proxy) challenge(now time.Time, index int, g *guard) {
	for _, m := range g.link.Start(now) {
		p.sendHandshake(index, m)
	}
}

// guardDeadline is when tickGuards has something to do.
func (p *Proxy) guardDeadline() (at time.Time, ok bool) {
	for _, g := range p.secured() {
		if t, set := g.link.Deadline(); set && (!ok || t.Before(at)) {
			at, ok = t, true
		}
	}
	return at, ok
}

// tickGuards repeats challenges that nobody answered.
func (p *Proxy) tickGuards(now time.Time) {
	for index, g := range p.secured() {
		for _, m := range g.link.Tick(now) {
			p.sendHandshake(index, m)
		}
	}
}

// authentic judges what arrived and leaves in c what may pass; false: nothing.
func (p *Proxy) authentic(c *captured) bool {
	g := p.guard(c.iface)
	if g == nil {
		return true
	}
	if p.layer == nil || !wire.IsBundle(c.message) {
		return p.judge(g, c, c.message)
	}
	header, subs, err := wire.SplitBundle(c.message)
	if err != nil {
		return p.judge(g, c, c.message) // counts it as malformed
	}
	// A Bundle is not signed, its messages are (RFC 2961 section 3.1).
	all := len(subs)
	good := subs[:0]
	for _, sub := range subs {
		if p.judge(g, c, sub) {
			good = append(good, sub)
		}
	}
	if len(good) == all {
		return true
	}
	if len(good) == 0 {
		return false
	}
	c.message, err = wire.JoinBundle(nil, header.Flags, header.SendTTL, good)
	return err == nil
}

func (p *Proxy) judge(g *guard, c *captured, msg []byte) bool {
	before := g.link.Counters()
	v := g.link.Receive(c.at, c.src, msg)
	if v.Send != nil {
		p.sendHandshake(c.iface, *v.Send)
	}
	after := g.link.Counters()
	switch v.Refused {
	case integrity.None:
		if after.StaleAccepted > before.StaleAccepted {
			p.stale(c.at, g)
		}
		return true
	case integrity.Handshake:
		if after.Handshakes > before.Handshakes {
			p.hooks.Log.Info("neighbour has proved itself", zap.String("interface", g.name), zap.Stringer("neighbor", c.src))
		}
		return false
	default:
		p.complain(*c, "integrity-"+v.Refused.String(), nil)
		return false
	}
}

// stale tells the operator that the last key has ended (RFC 2747 section 5.3).
func (p *Proxy) stale(now time.Time, g *guard) {
	if g.told.IsZero() || now.Sub(g.told) >= staleEvery {
		g.told = now
		p.hooks.Log.Warn("the last key has ended and is used on: give a new one", zap.String("interface", g.name),
			zap.Uint64s("keys", g.link.Stale(now)))
	}
}

// encode is a message as it leaves: signed, if its interface is secured.
func (p *Proxy) encode(s softstate.Send) ([]byte, error) {
	g := p.guard(int(s.Out))
	if g == nil {
		return s.Msg.Append(nil)
	}
	if s.Msg.Type != wire.Bundle {
		return p.sign(g, s, s.Msg)
	}
	subs := make([][]byte, 0, len(s.Msg.Bundle))
	for _, m := range s.Msg.Bundle {
		b, err := p.sign(g, s, m)
		if err != nil {
			return nil, err
		}
		subs = append(subs, b)
	}
	return wire.JoinBundle(nil, s.Msg.Flags, s.Msg.SendTTL, subs)
}

func (p *Proxy) sign(g *guard, s softstate.Send, m *wire.Message) ([]byte, error) {
	plain, err := m.Append(nil)
	if err != nil {
		return nil, err
	}
	return p.signPlain(g, s, plain)
}

// signPlain signs a message that is encoded already.
func (p *Proxy) signPlain(g *guard, s softstate.Send, plain []byte) ([]byte, error) {
	now := time.Now()
	before := g.link.Counters().StaleSigned
	b, err := g.link.Sign(make([]byte, 0, len(plain)+g.link.Overhead()), now, p.signFor(g, s), plain)
	if g.link.Counters().StaleSigned > before {
		p.stale(now, g)
	}
	return b, err
}

// signFor is the neighbour whose key a message is signed with: its destination,
// or for what is addressed to a session the next hop. That may be a router
// without RSVP; where all keys are for one neighbour it is meant. What crosses an
// aggregation region is for whoever is at its far edge, with a key that is for all
// (RFC 3175 section 1.4.11).
func (p *Proxy) signFor(g *guard, s softstate.Send) netip.Addr {
	if !g.link.Particular() {
		return netip.Addr{}
	}
	if !s.RouterAlert && !s.Msg.Type.NeedsRouterAlert() {
		return s.Dst
	}
	if sole, ok := g.link.Sole(); ok {
		return sole
	}
	if s.Hidden {
		return netip.Addr{}
	}
	if !s.Dst.IsMulticast() {
		if hop, ok := p.env.NextHop(s.Dst, s.Out); ok {
			return hop
		}
	}
	return netip.Addr{}
}

// grows is by how much signing makes a message longer.
func (p *Proxy) grows(out softstate.IfIndex) int {
	if g := p.guard(int(out)); g != nil {
		return g.link.Overhead()
	}
	return 0
}

// sendHandshake sends a message of the integrity handshake.
func (p *Proxy) sendHandshake(iface int, m integrity.Packet) {
	src := p.env.AddrTowards(softstate.IfIndex(iface), m.To)
	p.sent("handshake", m.To, p.emit(softstate.Send{
		Out: softstate.IfIndex(iface), Src: src, Dst: m.To, TTL: handshakeTTL,
	}, m.Msg))
}

// SecurityView is what there is to be told of authentication.
type SecurityView struct {
	Counters     integrity.Counters
	Associations int
	// Stale are the interfaces on which an ended key is used for want of another.
	Stale []StaleKeys
}

// StaleKeys are the ended keys of one interface.
type StaleKeys struct {
	Interface string
	Keys      []uint64
}

// security returns nil if nothing is secured, nor ever was.
func (p *Proxy) security(now time.Time) *SecurityView {
	by := p.secured()
	if !p.guards.ever {
		return nil
	}
	v := &SecurityView{Counters: p.guards.gone}
	for _, g := range by {
		c := g.link.Counters()
		v.Counters.Add(&c)
		v.Associations += g.link.Associations()
		if ids := g.link.Stale(now); len(ids) > 0 {
			v.Stale = append(v.Stale, StaleKeys{g.name, ids})
		}
	}
	return v
}
