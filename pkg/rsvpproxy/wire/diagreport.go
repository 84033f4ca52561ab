package wire

import (
	"net/netip"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// Report is the state of one sender as the objects of a DIAG_RESPONSE tell it
// (RFC 2745 sections 3.4 and 3.6). What is not set is not reported.
type Report struct {
	// Of path state.
	Hop            *Hop
	SenderTemplate *Filter
	SenderTSpec    *intserv.TSpec
	RawTSpec       *Object // SENDER_TSPEC as it came, where SenderTSpec cannot tell it
	AdSpec         *intserv.AdSpec
	// Of reservation state.
	Style       Style
	FlowSpec    *intserv.FlowSpec
	Filters     []Filter
	Scope       []netip.Addr
	ResvConfirm netip.Addr
	// Other are objects of other classes, as they came.
	Other []Object
}

// defaultSelect is what is reported if nothing is selected (RFC 2745 section 3.6).
var defaultSelect = []ClassCType{{Class: ClassSenderTSpec}, {Class: ClassFilterSpec}, {Class: ClassFlowSpec}, {Class: ClassStyle}}

// Objects returns the objects of r that selected names; nil stands for the
// default list. A C-Type of zero matches any (RFC 2745 section 3.4).
func (r *Report) Objects(selected []ClassCType) []Object {
	if len(selected) == 0 {
		selected = defaultSelect
	}
	var out []Object
	for _, o := range r.all() {
		class, ctype := o.header()
		if slices.ContainsFunc(selected, func(s ClassCType) bool {
			return s.Class == class && (s.CType == 0 || s.CType == ctype)
		}) {
			out = append(out, Object{Class: class, CType: ctype, Body: o.appendBody(nil)})
		}
	}
	return out
}

func (r *Report) all() (os []object) {
	if r.Hop != nil {
		os = append(os, *r.Hop)
	}
	if r.SenderTemplate != nil {
		os = append(os, senderTemplate{r.SenderTemplate})
	}
	switch {
	case r.RawTSpec != nil:
		os = append(os, *r.RawTSpec)
	case r.SenderTSpec != nil:
		os = append(os, senderTSpec{r.SenderTSpec})
	}
	if r.AdSpec != nil {
		os = append(os, adSpec{r.AdSpec})
	}
	if r.Style != 0 {
		os = append(os, r.Style)
	}
	if r.FlowSpec != nil {
		os = append(os, flowSpec{r.FlowSpec})
	}
	for _, f := range r.Filters {
		os = append(os, filterSpec{&f})
	}
	if len(r.Scope) > 0 {
		os = append(os, sortScope(slices.Clone(scope(r.Scope))))
	}
	if r.ResvConfirm.IsValid() {
		os = append(os, resvConfirm{&r.ResvConfirm})
	}
	for _, o := range r.Other {
		os = append(os, o)
	}
	return os
}

// Report reads the objects of a DIAG_RESPONSE. What cannot be read, or comes a
// second time, is among Other: it is another node's, and only shown.
func (r *DiagResponse) Report() *Report {
	out := &Report{}
	for _, o := range r.Objects {
		if !out.take(o) {
			out.Other = append(out.Other, o)
		}
	}
	return out
}

func (r *Report) take(o Object) bool {
	switch o.Class {
	case ClassHop:
		return read(&r.Hop, func() (*Hop, bool) {
			h, err := decodeHop(o.CType, o.Body)
			return h, err == nil
		})
	case ClassSenderTemplate:
		return read(&r.SenderTemplate, func() (*Filter, bool) {
			f, err := acceptEvery.filter(o.Class, o.CType, o.Body)
			return &f, err == nil
		})
	case ClassSenderTSpec:
		return read(&r.SenderTSpec, func() (*intserv.TSpec, bool) {
			t, _, err := decodeSenderTSpec(o.Body)
			return &t, o.CType == ctypeIntServ && err == nil
		})
	case ClassAdSpec:
		return read(&r.AdSpec, func() (*intserv.AdSpec, bool) {
			a, err := decodeAdSpec(o.Body)
			return a, o.CType == ctypeIntServ && err == nil
		})
	case ClassStyle:
		s, err := decodeStyle(o.CType, o.Body)
		if r.Style != 0 || err != nil {
			return false
		}
		r.Style = s
		return true
	case ClassFlowSpec:
		return read(&r.FlowSpec, func() (*intserv.FlowSpec, bool) {
			f, _, err := decodeFlowSpec(o.Body)
			return &f, o.CType == ctypeIntServ && err == nil
		})
	case ClassFilterSpec:
		f, err := acceptEvery.filter(o.Class, o.CType, o.Body)
		if err == nil {
			r.Filters = append(r.Filters, f)
		}
		return err == nil
	case ClassScope:
		s, err := decodeScope(o.CType, o.Body)
		if len(r.Scope) > 0 || err != nil {
			return false
		}
		r.Scope = s
		return true
	case ClassResvConfirm:
		a, rest, err := decodeAddr(o.Class, o.CType, o.Body, 0)
		if r.ResvConfirm.IsValid() || err != nil || len(rest) > 0 {
			return false
		}
		r.ResvConfirm = a
		return true
	default:
		return false
	}
}

// read fills v once.
func read[T any](v **T, decode func() (*T, bool)) bool {
	if *v != nil {
		return false
	}
	got, ok := decode()
	if ok {
		*v = got
	}
	return ok
}

// Length is how many bytes the object takes, header included.
func (r *DiagResponse) Length() int { return objectHeader + r.size() }

// ResponseBytes is the size of d's DIAG_RESPONSE objects: what Fragment Offset
// counts (RFC 2745 section 3.3).
func (d *Diag) ResponseBytes() (n int) {
	for i := range d.Responses {
		n += d.Responses[i].Length()
	}
	return n
}

// Started says whether the collection has begun: nodes between the requester
// and the LAST-HOP pass on a request that has not (RFC 2745 section 4.1).
func (d *Diag) Started() bool { return len(d.Responses) > 0 || d.Diagnostic.FragmentOffset != 0 }

// FreshRequest says whether a message is a DREQ that has not [Diag.Started],
// without reading more of it than is needed for that.
func FreshRequest(b []byte) bool {
	if len(b) < commonHeader || MsgType(b[1]) != DiagRequest {
		return false
	}
	fresh := false
	err := walk(b[commonHeader:], func(class Class, _ uint8, body []byte) error {
		switch {
		case class == ClassDiagnostic && len(body) >= 12:
			fresh = body[10] == 0 && body[11] == 0
		case class == ClassDiagResponse:
			fresh = false
		}
		return nil
	})
	return err == nil && fresh
}
