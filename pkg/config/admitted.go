package config

import "slices"

// admitted refuses a policy whose reservations the rules of admission would never
// grant, whoever asks for them: no rule is for its traffic, or the first one takes
// all of it and allows less than the policy asks for.
func (d *decoder) admitted(r *rawConfig, c *Config) {
	rules := c.Admission.Rules
	if len(rules) == 0 || len(rules) != len(r.admission.rules) {
		return
	}
	for i := range c.Policies {
		raw, p := &r.policies[i], &c.Policies[i]
		if p.Reserve == nil || raw.broken || !raw.match.set || p.Reserve.TSpec == (TSpec{}) {
			continue
		}
		traffic := makeReach(raw, &p.Match)
		first := -1
		for j := range rules {
			m := makeReach(nil, &Match{Protocol: rules[j].Protocol, From: rules[j].From, To: rules[j].To})
			if !m.touches(&traffic) {
				continue
			}
			if first = j; len(rules[j].In)+len(rules[j].Out)+len(rules[j].Users)+len(rules[j].Applications) > 0 || !m.covers(&traffic) {
				first = len(rules) // it depends
			}
			break
		}
		switch {
		case first < 0:
			d.errorf(raw.reserve.at, "no rule of admission is for this policy's traffic, so that its reservations would all be refused: add a rule that matches it, or remove reserve")
		case first < len(rules):
			d.judged(raw, p, &rules[first])
		}
	}
}

// judged holds a policy to the rule that all of its traffic matches.
func (d *decoder) judged(raw *rawPolicy, p *Policy, rule *Rule) {
	r, t := &raw.reserve.v, &p.Reserve.TSpec
	switch {
	case rule.Refuse:
		d.errorf(raw.reserve.at, "rule %s of admission (line %d) refuses all reservations of this policy: put a rule that admits them before it, or remove reserve", rule.Name, rule.Line)
	case len(rule.Services) > 0 && !slices.Contains(rule.Services, p.Reserve.Service):
		d.errorf(raw.reserve.at, "rule %s of admission (line %d) does not allow service: %s, which this policy asks for: change one of them", rule.Name, rule.Line, p.Reserve.Service)
	case rule.Rate > 0 && t.Rate > rule.Rate:
		d.errorf(r.tspec.v.rate.at, "rate is more than rule %s of admission (line %d) allows (%s): lower it, or raise that", rule.Name, rule.Line, formatRate(rule.Rate))
	case rule.Burst > 0 && t.Burst > rule.Burst:
		d.errorf(r.tspec.v.burst.at, "burst is more than rule %s of admission (line %d) allows (%dB): lower it, or raise that", rule.Name, rule.Line, rule.Burst)
	case rule.Priority >= 0 && max(int(p.Reserve.Priority.Setup), int(p.Reserve.Priority.Hold)) > rule.Priority:
		d.errorf(r.priority.at, "priority is above what rule %s of admission (line %d) allows (%d): lower it, or raise that", rule.Name, rule.Line, rule.Priority)
	}
}
