package wire

import "net/netip"

// PolicyOptions are the options of a POLICY_DATA object (RFC 2750 section 3.2).
type PolicyOptions struct {
	// Filters or Scope are the senders that the policy is about; without either
	// it is about all flows of the session.
	Filters     []Filter
	Scope       []netip.Addr
	Originating *Hop // policy node that made the object; nil: the previous hop
	Destination *Hop // policy node it is for; nil: any
	Integrity   *Object
	Refresh     *TimeValues // policy refresh period; nil: that of the session
	Unknown     []Object
}

// Read takes the options apart.
func (p *PolicyData) Read() (o PolicyOptions, err error) {
	for _, option := range p.Options {
		if err := o.take(option); err != nil {
			return PolicyOptions{}, badPolicy(PolicyBadSyntax, "option: %v", err)
		}
	}
	if o.Filters != nil && o.Scope != nil {
		return PolicyOptions{}, badPolicy(PolicyBadSyntax, "both FILTER_SPEC and SCOPE")
	}
	return o, nil
}

func (o *PolicyOptions) take(option Object) error {
	twice := false
	var err *Error
	switch option.Class {
	case ClassFilterSpec:
		var f Filter
		if f, err = acceptEvery.filter(option.Class, option.CType, option.Body); err == nil {
			o.Filters = append(o.Filters, f)
		}
	case ClassScope:
		twice = o.Scope != nil
		o.Scope, err = decodeScope(option.CType, option.Body)
	case ClassHop:
		var h *Hop
		h, err = decodeHop(option.CType, option.Body)
		if o.Originating == nil {
			o.Originating = h
		} else {
			twice = o.Destination != nil
			o.Destination = h
		}
	case ClassIntegrity:
		twice = o.Integrity != nil
		o.Integrity = &option
	case ClassTimeValues:
		twice = o.Refresh != nil
		o.Refresh, err = decodeTimeValues(option.CType, option.Body)
	default:
		o.Unknown = append(o.Unknown, option)
	}
	if err == nil && twice {
		err = malformed(KindDuplicate, option.Class, "one too many")
	}
	return errorOf(err)
}

// Objects returns the options in the order of RFC 2750 section 3.2.
func (o PolicyOptions) Objects() (os []Object) {
	put := func(x object) {
		class, ctype := x.header()
		os = append(os, Object{Class: class, CType: ctype, Body: x.appendBody(nil)})
	}
	for _, f := range o.Filters {
		put(filterSpec{&f})
	}
	if len(o.Scope) > 0 {
		put(scope(o.Scope))
	}
	if o.Originating != nil {
		put(*o.Originating)
	}
	if o.Destination != nil {
		put(*o.Destination)
	}
	if o.Integrity != nil {
		put(*o.Integrity)
	}
	if o.Refresh != nil {
		put(*o.Refresh)
	}
	return append(os, o.Unknown...)
}
