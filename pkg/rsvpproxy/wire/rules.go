package wire

import "github.com/qosproxy/qosproxy/pkg/intserv"

// classes is a set of the classes of RFC 2205, whose numbers are below 16.
type classes uint16

func set(cs ...Class) (s classes) {
	for _, c := range cs {
		s |= 1 << c
	}
	return s
}

func (s classes) has(c Class) bool { return c < 16 && s&(1<<c) != 0 }

// first returns the lowest class in s, which must not be empty.
func (s classes) first() Class {
	for c := range Class(16) {
		if s.has(c) {
			return c
		}
	}
	return 0
}

var (
	senderDescriptor = set(ClassSenderTemplate, ClassSenderTSpec, ClassAdSpec)
	flowDescriptors  = set(ClassStyle, ClassFlowSpec, ClassFilterSpec)
)

// rules says which objects a message must and may have: the BNF of RFC 2205
// section 3.1.3 to 3.1.9. That a Path must have its sender descriptor follows
// from section 3.1.2.
var rules = [...]struct{ required, optional classes }{
	Path: {
		set(ClassSession, ClassHop, ClassTimeValues, ClassSenderTemplate, ClassSenderTSpec),
		set(ClassIntegrity, ClassPolicyData, ClassAdSpec),
	},
	Resv: {
		set(ClassSession, ClassHop, ClassTimeValues, ClassStyle),
		set(ClassIntegrity, ClassResvConfirm, ClassScope, ClassPolicyData) | flowDescriptors,
	},
	PathErr: {
		set(ClassSession, ClassErrorSpec),
		set(ClassIntegrity, ClassPolicyData) | senderDescriptor,
	},
	ResvErr: {
		set(ClassSession, ClassHop, ClassErrorSpec, ClassStyle),
		set(ClassIntegrity, ClassScope, ClassPolicyData) | flowDescriptors,
	},
	PathTear: {
		set(ClassSession, ClassHop),
		set(ClassIntegrity) | senderDescriptor,
	},
	ResvTear: {
		set(ClassSession, ClassHop, ClassStyle),
		set(ClassIntegrity, ClassScope) | flowDescriptors,
	},
	ResvConf: {
		set(ClassSession, ClassErrorSpec, ClassResvConfirm, ClassStyle),
		set(ClassIntegrity) | flowDescriptors,
	},
	// What is told of one session; see notify.go.
	Notify: {
		set(ClassErrorSpec, ClassSession),
		set(ClassIntegrity, ClassPolicyData) | senderDescriptor | flowDescriptors,
	},
	// Their own objects are in messageid.go.
	Ack:      {0, set(ClassIntegrity)},
	Srefresh: {0, set(ClassIntegrity)},
}

// repeatable are the classes of which a message may have several.
var repeatable = set(ClassPolicyData, ClassFlowSpec, ClassFilterSpec)

func checkClasses(t MsgType, have classes) *Error {
	r := rules[t]
	if missing := r.required &^ have; missing != 0 {
		return malformed(KindMissing, missing.first(), "%v message without it", t)
	}
	if illegal := have &^ (r.required | r.optional); illegal != 0 {
		return malformed(KindIllegalClass, illegal.first(), "in a %v message", t)
	}
	return nil
}

// check holds what was understood of a message to the rules that go beyond
// single objects.
func (m *Message) check() *Error {
	if err := m.Session.check(); err != nil {
		return err
	}
	v4 := m.Session.Dst.Is4()
	if m.Hop != nil {
		if why := badAddr(m.Hop.Addr); why != "" {
			return malformed(KindAddress, ClassHop, "%s", why)
		}
		if m.Hop.Addr.Is4() != v4 {
			return malformed(KindAddress, ClassHop, "%v is not of the session's family", m.Hop.Addr)
		}
	}
	if m.ResvConfirm.IsValid() {
		if why := badAddr(m.ResvConfirm); why != "" {
			return malformed(KindAddress, ClassResvConfirm, "%s", why)
		}
	}
	if m.ErrorSpec != nil && !m.ErrorSpec.Node.IsValid() {
		return malformed(KindAddress, ClassErrorSpec, "no error node")
	}
	for _, a := range m.Scope {
		if !a.IsValid() || a.Is4() != v4 {
			return malformed(KindAddress, ClassScope, "%v is not of the session's family", a)
		}
	}
	if m.SenderTemplate != nil {
		if err := m.SenderTemplate.check(m.Session, ClassSenderTemplate); err != nil {
			return err
		}
	}
	for i := range m.Flows {
		if err := m.Flows[i].checkFilters(m.Session); err != nil {
			return err
		}
	}
	for i := range m.BadFlows {
		if err := m.BadFlows[i].checkFilters(m.Session); err != nil {
			return err
		}
	}
	return nil
}

func (f *FlowDescriptor) checkFilters(s Session) *Error {
	for _, fs := range f.Filters {
		if err := fs.check(s, ClassFilterSpec); err != nil {
			return err
		}
	}
	return nil
}

// checkFlows holds the flow descriptor list to its style (RFC 2205 section
// 3.1.4) and its message: a ResvErr has at most one (section 3.1.8), a ResvTear
// needs no FLOWSPEC (section 3.1.6).
func (m *Message) checkFlows() *Error {
	n := len(m.Flows) + len(m.BadFlows)
	switch {
	case n == 0 && (m.Type == Resv || m.Type == ResvConf || m.Type == ResvTear && m.Style != WF):
		return malformed(KindFlowCount, ClassFlowSpec, "no flow descriptor")
	case n > 1 && m.Style != FF:
		return malformed(KindFlowCount, ClassFlowSpec, "%d flow descriptors in style %v", n, m.Style)
	case n > 1 && m.Type == ResvErr:
		return malformed(KindFlowCount, ClassFlowSpec, "%d flow descriptors in a ResvErr", n)
	}
	for i := range m.Flows {
		if err := m.Flows[i].check(m.Type, m.Style); err != nil {
			return err
		}
	}
	for i := range m.BadFlows {
		if err := m.BadFlows[i].check(m.Type, m.Style); err != nil {
			return err
		}
	}
	return nil
}

func (f *FlowDescriptor) check(t MsgType, s Style) *Error {
	filters := len(f.Filters)
	switch {
	case f.FlowSpec == nil && f.Raw == nil && t != ResvTear:
		return malformed(KindFlowCount, ClassFlowSpec, "flow descriptor without FLOWSPEC")
	case s == WF && filters > 0:
		return malformed(KindFlowCount, ClassFilterSpec, "filter spec in style wf")
	case s == FF && filters != 1, s == SE && filters == 0:
		return malformed(KindFlowCount, ClassFilterSpec, "%d filter specs in a descriptor of style %v", filters, s)
	}
	return nil
}

// checkValues refuses to send what a peer would have to refuse.
func (m *Message) checkValues() *Error {
	if m.SenderTSpec != nil && !m.SenderTSpec.Null() {
		if err := m.SenderTSpec.Validate(); err != nil {
			return trafficControl(ClassSenderTSpec, TCBadTSpec, err)
		}
	}
	if m.AdSpec != nil {
		if err := checkAdSpec(m.AdSpec); err != nil {
			return trafficControl(ClassAdSpec, TCBadAdSpec, err)
		}
	}
	for i := range m.Flows {
		if err := validate(m.Flows[i].FlowSpec); err != nil {
			return flowSpecError(err)
		}
	}
	return nil
}

func validate(f *intserv.FlowSpec) error {
	if f == nil {
		return nil
	}
	return f.Validate()
}
