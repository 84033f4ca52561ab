package wire

// SessionAssoc is the SESSION_ASSOC object (RFC 2746 section 2.3.1): the
// end-to-end session is carried by the tunnel session that has this sender. It
// belongs into the Unknown objects of an end-to-end Path: its class travels
// through those who do not know it.
type SessionAssoc struct {
	Session Session // end to end
	Tunnel  Filter  // sender of the tunnel session
}

// Object returns a as an object.
func (a SessionAssoc) Object() Object {
	return Object{Class: ClassSessionAssoc, Body: appendObject(appendObject(nil, a.Session), filterSpec{&a.Tunnel})}
}

// ParseSessionAssoc reads a SESSION_ASSOC. The C-Type is ignored, as it has to
// be.
func ParseSessionAssoc(o Object) (a SessionAssoc, err error) {
	if o.Class != ClassSessionAssoc {
		return a, malformed(KindIllegalClass, o.Class, "no SESSION_ASSOC")
	}
	seen := 0
	err = walk(o.Body, func(class Class, ctype uint8, body []byte) error {
		var err *Error
		switch {
		case class == ClassSession && seen == 0:
			a.Session, err = acceptEvery.session(ctype, body)
			if err == nil {
				err = a.Session.check()
			}
		case (class == ClassFilterSpec || class == ClassSenderTemplate) && seen == 1:
			a.Tunnel, err = acceptEvery.filter(class, ctype, body)
			if why := badAddr(a.Tunnel.Src); err == nil && why != "" {
				err = malformed(KindAddress, class, "tunnel sender: %s", why)
			}
		default:
			return malformed(KindIllegalClass, class, "inside SESSION_ASSOC")
		}
		seen++
		return unanswered(errorOf(err))
	})
	switch {
	case err != nil:
		return SessionAssoc{}, err
	case seen < 2:
		return SessionAssoc{}, malformed(KindMissing, o.Class, "without SESSION or FILTER_SPEC")
	}
	return a, nil
}

// TakeSessionAssoc takes the SESSION_ASSOC objects out of m and returns the
// first that can be read: the tunnel's exit removes them before PATH goes on
// (RFC 2746 section 2.3).
func (m *Message) TakeSessionAssoc() (found *SessionAssoc) {
	var rest []Object
	for _, o := range m.Unknown {
		if o.Class != ClassSessionAssoc {
			rest = append(rest, o)
			continue
		}
		if a, err := ParseSessionAssoc(o); err == nil && found == nil {
			found = &a
		}
	}
	m.Unknown = rest
	return found
}

// nodeChar is the NODE_CHAR object (RFC 2746 section 2.3.2) with the T bit: who
// sends it is the end of a tunnel and knows RSVP over tunnels.
type nodeChar struct{}

func (nodeChar) header() (Class, uint8)     { return ClassNodeChar, 0 }
func (nodeChar) size() int                  { return 4 }
func (nodeChar) appendBody(b []byte) []byte { return append(b, 0, 0, 0, 1) }

// nodeChar takes in a NODE_CHAR, which is in RESV alone and ignored elsewhere,
// as is one that is not what it should be: its class is of those that are
// dropped without an answer.
func (p *parser) nodeChar(body []byte) {
	p.m.TunnelEnd = p.m.TunnelEnd || p.m.Type == Resv && len(body) == 4 && body[3]&1 != 0
}
