package intserv

// Within says whether f asks for no more than limit leaves of it: average, peak
// and service rate, which are what a reduction in place is about (RFC 4495
// section 5.2).
func (f FlowSpec) Within(limit FlowSpec) bool {
	return f.Service == limit.Service && f.TSpec.Rate <= limit.TSpec.Rate &&
		f.TSpec.Peak <= limit.TSpec.Peak && f.RSpec.Rate <= limit.RSpec.Rate
}

// AtMost returns f with its rates reduced to what limit leaves of them (RFC 4495
// section 5.2). What limit says beside that is not asked of anybody, and a limit
// of another service says nothing. The result is never more than f.
func (f FlowSpec) AtMost(limit FlowSpec) FlowSpec {
	if f.Service != limit.Service {
		return f
	}
	f.TSpec.Rate = min(f.TSpec.Rate, limit.TSpec.Rate)
	f.TSpec.Peak = min(f.TSpec.Peak, limit.TSpec.Peak)
	if f.Service == Guaranteed {
		// R is not below r in either, so neither is it here (RFC 2212).
		f.RSpec.Rate = min(f.RSpec.Rate, limit.RSpec.Rate)
	}
	return f
}
