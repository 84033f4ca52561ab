package wire

// soi is a SESSION-OF-INTEREST object: a generic aggregate session that an
// end-to-end message speaks of (RFC 4860 section 2.2).
type soi struct{ *Session }

func (s soi) header() (Class, uint8) { return ClassSOI, addrCType(s.Dst) }

func (s soi) check() error {
	if s.Format != FormatGenericAggregate {
		return malformed(KindFormat, ClassSOI, "session of format %v", s.Format)
	}
	return errorOf(s.Session.check())
}

// soi takes in a SESSION-OF-INTEREST. Its class is of the kind that those who
// do not know it drop, so an unknown C-Type is dropped as well.
func (p *parser) soi(ctype uint8, body []byte) error {
	if ctype != ctypeIPv4 && ctype != ctypeIPv6 {
		return nil
	}
	s, err := sessionBody(ClassSOI, ctype, ctype, FormatGenericAggregate, body)
	if err == nil {
		err = s.check()
	}
	if err != nil {
		err.Class = ClassSOI
		return err
	}
	p.m.SOI = append(p.m.SOI, s)
	return nil
}
