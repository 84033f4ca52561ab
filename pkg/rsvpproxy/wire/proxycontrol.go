package wire

// ProxyControl is the control value of the REC_PROXY_CONTROL policy element: what
// a sender knows of its receiver (RFC 5946 section 4.2).
type ProxyControl uint8

// The control values; all others say nothing.
const (
	ProxyNeeded    ProxyControl = 1 // the receiver does not speak RSVP
	ProxyNotNeeded ProxyControl = 2 // it does
)

// Element returns c as a policy element.
func (c ProxyControl) Element() PolicyElement {
	return PolicyElement{Type: ProxyControlType, Body: []byte{0, 0, 0, uint8(c)}}
}

// ProxyControlOf finds the control value in the POLICY_DATA objects of a Path; 0:
// there is none. What cannot be read is for the policy to judge.
func ProxyControlOf(list []Object) ProxyControl {
	for _, o := range list {
		d, err := ParsePolicy(o)
		if err != nil {
			continue
		}
		if e, ok := d.Element(ProxyControlType); ok && len(e.Body) == 4 {
			if c := ProxyControl(e.Body[3]); c == ProxyNeeded || c == ProxyNotNeeded {
				return c
			}
		}
	}
	return 0
}
