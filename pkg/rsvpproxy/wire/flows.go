package wire

import (
	"slices"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// flow is the parser's place in the flow descriptor list.
type flow struct {
	spec *intserv.FlowSpec // of the latest FLOWSPEC
	raw  *Object
	err  *Error
	any  bool // there was a FLOWSPEC
	used bool // it has its descriptor already

	last *FlowDescriptor // the descriptor that filter specs (SE) and unknown objects go to
}

// flowSpec takes in a FLOWSPEC. Those of a ResvTear are ignored (RFC 2205
// section 3.1.6); what is wrong with one in a ResvErr or ResvConf was found by
// another node and is only passed on.
func (p *parser) flowSpec(ctype uint8, body []byte) *Error {
	f := &p.flow
	if f.any && !f.used {
		return malformed(KindFlowCount, ClassFlowSpec, "second FLOWSPEC without a filter spec between")
	}
	*f = flow{any: true, last: f.last}
	if p.m.Type != ResvTear {
		f.decode(ctype, body)
		if p.m.Type != Resv {
			f.err = nil
		}
	}
	if p.m.Style != FF {
		p.addFlow()
	}
	return nil
}

func (f *flow) decode(ctype uint8, body []byte) {
	f.err = unknownCType(ClassFlowSpec, ctype)
	more := false
	if ctype == ctypeIntServ {
		spec, m, err := decodeFlowSpec(body)
		if err != nil {
			f.err = flowSpecError(err)
		} else {
			f.spec, more, f.err = &spec, m, nil
		}
	}
	if f.err != nil || more {
		f.raw = clone(ClassFlowSpec, ctype, body)
	}
}

func (p *parser) filterSpec(ctype uint8, body []byte) *Error {
	fs, err := p.opt.Formats.filter(ClassFilterSpec, ctype, body)
	if err != nil {
		p.flow.used = true
		return err
	}
	f := &p.flow
	switch {
	case p.m.Style == FF && !f.any && p.m.Type != ResvTear:
		return malformed(KindFlowCount, ClassFilterSpec, "first flow descriptor without FLOWSPEC")
	case p.m.Style == WF:
		return malformed(KindFlowCount, ClassFilterSpec, "filter spec in style wf")
	case p.m.Style == FF, f.last == nil:
		p.addFlow()
	}
	f.last.Filters = append(f.last.Filters, fs)
	return nil
}

// addFlow begins a descriptor with the latest FLOWSPEC: in style FF it is left
// out when it repeats (RFC 2205 section 3.1.4).
func (p *parser) addFlow() {
	f := &p.flow
	d := FlowDescriptor{Raw: f.raw}
	if f.spec != nil {
		spec := *f.spec
		d.FlowSpec = &spec
	}
	f.used = true
	if f.err != nil {
		p.m.BadFlows = append(p.m.BadFlows, BadFlow{FlowDescriptor: d, Err: f.err})
		f.last = &p.m.BadFlows[len(p.m.BadFlows)-1].FlowDescriptor
		return
	}
	p.m.Flows = append(p.m.Flows, d)
	f.last = &p.m.Flows[len(p.m.Flows)-1]
}

// endFlows closes the list: a FLOWSPEC at its end has nobody to serve. A
// ResvTear in style WF ends with no descriptor at all.
func (p *parser) endFlows() *Error {
	if p.refused == nil && p.flow.any && !p.flow.used {
		return malformed(KindFlowCount, ClassFlowSpec, "FLOWSPEC without filter spec at the end")
	}
	if p.m.Type == ResvTear && p.m.Style == WF {
		for _, d := range p.m.Flows {
			p.m.Unknown = slices.Concat(p.m.Unknown, d.Unknown)
		}
		p.m.Flows = nil
	}
	return nil
}
