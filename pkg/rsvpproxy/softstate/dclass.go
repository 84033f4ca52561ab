package softstate

import (
	"errors"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Marker is an [Environment] that has a say in what RESV tells upstream of how
// packets are to be marked (RFC 2996). Without it what came from downstream goes on.
type Marker interface {
	// Marks is asked with each RESV about each reservation that it is merged from.
	// ours: codes go upstream, or if there are none nothing, instead of what came
	// from downstream.
	Marks(Marking) (codes []uint8, ours bool)
}

// Marking is what a [Marker] is asked about.
type Marking struct {
	Session wire.Session
	Filters []wire.Filter // the senders that the reservation serves
	Out     IfIndex       // by which their packets leave
	Service intserv.Service
	Heard   []uint8 // the code points that those downstream name
}

// dclass appends the code points of the DCLASS objects among those that came with
// a request. Those that cannot be read are refused before ([checkDClass]).
func dclass(out []uint8, list []wire.Object) []uint8 {
	for _, o := range list {
		if o.Class != wire.ClassDClass {
			continue
		}
		codes, err := wire.ParseDClass(o)
		if err != nil {
			continue
		}
		out = withCodes(out, codes)
	}
	return out
}

// withCodes adds those that are not there: 64 at most in all.
func withCodes(out, codes []uint8) []uint8 {
	for _, c := range codes {
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// dscps are the code points that all requests that count name.
func (t *tcsb) dscps() (out []uint8) {
	for _, r := range t.asking() {
		out = dclass(dclass(out, r.flowUnknown), r.unknown)
	}
	return out
}

// checkDClass finds a DCLASS of a RESV that cannot be read: its class is known here,
// so that the rules for what is not known do not hold (RFC 2205 section 3.10, rule
// 2). nil: there is none.
func checkDClass(m *wire.Message) *wire.Error {
	lists := [][]wire.Object{m.Unknown}
	for i := range m.Flows {
		lists = append(lists, m.Flows[i].Unknown)
	}
	for i := range m.BadFlows {
		lists = append(lists, m.BadFlows[i].Unknown)
	}
	for _, list := range lists {
		for _, o := range list {
			if o.Class != wire.ClassDClass {
				continue
			}
			if _, err := wire.ParseDClass(o); err != nil {
				e, ok := errors.AsType[*wire.Error](err)
				if !ok {
					e = &wire.Error{Kind: wire.KindObjectLength, Class: o.Class, CType: o.CType}
				}
				return e
			}
		}
	}
	return nil
}

// addObjects adds to a RESV the objects of other classes that came with the requests
// that it is merged from: those that are not known here once each (RFC 2205 section
// 3.10, rule 1), and of DCLASS one that names all code points. The only one that
// there is goes on as it came.
func (n *Node) addObjects(m *wire.Message, o *offer) {
	flow := &m.Flows[0]
	var codes []uint8
	var came []wire.Object // DCLASS
	ours := false
	at := &flow.Unknown
	for i, r := range o.from {
		m.Unknown = union(m.Unknown, without(r.unknown, wire.ClassDClass)) // rule 3
		flow.Unknown = union(flow.Unknown, without(r.flowUnknown, wire.ClassDClass))
		if slices.ContainsFunc(o.from[:i], func(x *rsb) bool { return x.t == r.t }) {
			continue
		}
		heard := r.t.dscps()
		if mine, decided := n.marks(r.t, heard); decided {
			codes, ours = withCodes(codes, mine), true
			continue
		}
		codes = withCodes(codes, heard)
		for _, x := range r.t.asking() {
			before := len(came)
			came = union(came, ofClass(x.unknown, wire.ClassDClass))
			if len(came) > before {
				at = &m.Unknown
			}
			before = len(came)
			if came = union(came, ofClass(x.flowUnknown, wire.ClassDClass)); len(came) > before {
				at = &flow.Unknown
			}
		}
	}
	switch {
	case len(codes) == 0:
	case !ours && len(came) == 1:
		*at = append(slices.Clip(*at), came[0])
	default:
		flow.Unknown = append(slices.Clip(flow.Unknown), wire.DClass(codes...))
	}
}

// marks asks what goes upstream of how t's packets are to be marked.
func (n *Node) marks(t *tcsb, heard []uint8) (codes []uint8, ours bool) {
	e, ok := n.env.(Marker)
	if !ok {
		return nil, false
	}
	q := Marking{Session: t.s.id, Out: t.key.out, Heard: heard, Service: t.rsbs[0].wanted().flow.Service}
	t.senders(func(p *psb) { q.Filters = append(q.Filters, p.sender) })
	return e.Marks(q)
}

func ofClass(list []wire.Object, c wire.Class) (out []wire.Object) {
	for _, o := range list {
		if o.Class == c {
			out = append(out, o)
		}
	}
	return out
}

func without(list []wire.Object, c wire.Class) []wire.Object {
	if len(ofClass(list, c)) == 0 {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(o wire.Object) bool { return o.Class == c })
}
