package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// Composed parameters as the wire numbers them (RFC 2215 section 3, RFC 2212).
const (
	paramHops      = 4
	paramBandwidth = 6
	paramLatency   = 8
	paramMTU       = 10
	paramCtot      = 133
	paramDtot      = 134
	paramCsum      = 135
	paramDsum      = 136
)

// adSpec is the ADSPEC object (RFC 2210 section 3.3).
type adSpec struct{ *intserv.AdSpec }

func (adSpec) header() (Class, uint8) { return ClassAdSpec, ctypeIntServ }

func (a adSpec) size() int {
	n := 2*word + generalSize(a.General) + len(a.Extra)
	if g := a.Guaranteed; g != nil {
		n += word + guaranteedSize(g)
	}
	if c := a.ControlledLoad; c != nil {
		n += word + generalSize(c.Override) + len(c.Extra)
	}
	for _, u := range a.Unknown {
		n += word + len(u.Body)
	}
	return n
}

func (a adSpec) appendBody(b []byte) []byte {
	b = appendHeader(b, 0, 0, a.size()/word-1)
	b = appendHeader(b, uint8(intserv.General), breakFlag(a.Break), (generalSize(a.General)+len(a.Extra))/word)
	b = append(appendGeneral(b, a.General), a.Extra...)

	// Fragments go in ascending order of service number (RFC 2210 section 3.3).
	unknown := a.Unknown
	below := func(s intserv.Service) {
		for len(unknown) > 0 && unknown[0].Service < s {
			b = appendUnknown(b, unknown[0])
			unknown = unknown[1:]
		}
	}
	if g := a.Guaranteed; g != nil {
		below(intserv.Guaranteed)
		b = appendGuaranteed(b, g)
	}
	if c := a.ControlledLoad; c != nil {
		below(intserv.ControlledLoad)
		words := (generalSize(c.Override) + len(c.Extra)) / word
		b = appendHeader(b, uint8(intserv.ControlledLoad), breakFlag(c.Break), words)
		b = append(appendGeneral(b, c.Override), c.Extra...)
	}
	for _, u := range unknown {
		b = appendUnknown(b, u)
	}
	return b
}

func appendUnknown(b []byte, u intserv.UnknownAd) []byte {
	b = appendHeader(b, uint8(u.Service), breakFlag(u.Break), len(u.Body)/word)
	return append(b, u.Body...)
}

func guaranteedSize(g *intserv.GuaranteedAd) int {
	if g.Empty {
		return 0
	}
	return 4*2*word + generalSize(g.Override) + len(g.Extra)
}

// appendGuaranteed writes the service's own parameters first, then those that
// override general ones (RFC 2210 section 3.3.3).
func appendGuaranteed(b []byte, g *intserv.GuaranteedAd) []byte {
	b = appendHeader(b, uint8(intserv.Guaranteed), breakFlag(g.Break), guaranteedSize(g)/word)
	if g.Empty {
		return b
	}
	b = appendParam(b, paramCtot, g.Ctot)
	b = appendParam(b, paramDtot, g.Dtot)
	b = appendParam(b, paramCsum, g.Csum)
	b = appendParam(b, paramDsum, g.Dsum)
	return append(appendGeneral(b, g.Override), g.Extra...)
}

func appendParam(b []byte, id uint8, v uint32) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(b, id, 0, 1), v)
}

func generalSize(p intserv.Params) (n int) {
	for set := p.Set; set != 0; set &= set - 1 {
		n += 2 * word
	}
	return n
}

func appendGeneral(b []byte, p intserv.Params) []byte {
	if p.Set&intserv.ParamHops != 0 {
		b = appendParam(b, paramHops, p.Hops)
	}
	if p.Set&intserv.ParamBandwidth != 0 {
		b = appendFloat(appendHeader(b, paramBandwidth, 0, 1), p.Bandwidth)
	}
	if p.Set&intserv.ParamLatency != 0 {
		b = appendParam(b, paramLatency, p.Latency)
	}
	if p.Set&intserv.ParamMTU != 0 {
		b = appendParam(b, paramMTU, p.MTU)
	}
	return b
}

// checkAdSpec refuses what would not come back as it was: services out of order
// or in the wrong place, odd lengths.
func checkAdSpec(a *intserv.AdSpec) error {
	extra := len(a.Extra)
	if a.ControlledLoad != nil {
		extra |= len(a.ControlledLoad.Extra)
	}
	if a.Guaranteed != nil {
		extra |= len(a.Guaranteed.Extra)
	}
	if extra%word != 0 {
		return errors.New("parameters kept are no whole words")
	}
	last := intserv.General
	for _, u := range a.Unknown {
		if u.Service <= last || u.Service.Requestable() {
			return fmt.Errorf("fragment of service %d out of place", u.Service)
		}
		if len(u.Body)%word != 0 {
			return fmt.Errorf("fragment of service %d: %d bytes", u.Service, len(u.Body))
		}
		last = u.Service
	}
	return a.Validate()
}

func decodeAdSpec(body []byte) (*intserv.AdSpec, error) {
	data, err := overall(body)
	if err != nil {
		return nil, err
	}
	a := &intserv.AdSpec{}
	last := -1
	for len(data) > 0 {
		var f fragment
		if f, data, err = nextFragment(data); err != nil {
			return nil, err
		}
		if last < 0 && f.service != intserv.General {
			return nil, errors.New("does not begin with the general parameters")
		}
		if int(f.service) <= last {
			return nil, fmt.Errorf("fragment of service %d out of order", f.service)
		}
		last = int(f.service)
		if err := decodeFragment(a, f); err != nil {
			return nil, fmt.Errorf("%v fragment: %w", f.service, err)
		}
	}
	if last < 0 {
		return nil, errors.New("no general parameters")
	}
	return a, a.Validate()
}

func decodeFragment(a *intserv.AdSpec, f fragment) error {
	var own ownParams
	switch f.service {
	case intserv.General:
		a.Break = f.broken
		return decodeParams(f.data, &a.General, nil, &a.Extra)
	case intserv.ControlledLoad:
		a.ControlledLoad = &intserv.ServiceAd{Break: f.broken}
		return decodeParams(f.data, &a.ControlledLoad.Override, nil, &a.ControlledLoad.Extra)
	case intserv.Guaranteed:
		g := &intserv.GuaranteedAd{ServiceAd: intserv.ServiceAd{Break: f.broken}, Empty: len(f.data) == 0}
		a.Guaranteed = g
		if g.Empty {
			return nil
		}
		if err := decodeParams(f.data, &g.Override, &own, &g.Extra); err != nil {
			return err
		}
		if own.seen != 1<<len(own.value)-1 {
			return errors.New("error terms missing")
		}
		g.Ctot, g.Dtot, g.Csum, g.Dsum = own.value[0], own.value[1], own.value[2], own.value[3]
	default:
		a.Unknown = append(a.Unknown, intserv.UnknownAd{
			Service: f.service, Break: f.broken, Body: slices.Clone(f.data),
		})
	}
	return nil
}

// ownParams are the parameters 133 to 136 of guaranteed service.
type ownParams struct {
	value [4]uint32
	seen  uint8
}

// decodeParams sorts parameters into general ones, the service's own, and the
// rest, which is kept as it came.
func decodeParams(data []byte, p *intserv.Params, own *ownParams, extra *[]byte) error {
	for len(data) > 0 {
		id, whole, v, rest, err := nextParam(data)
		if err != nil {
			return err
		}
		data = rest
		bit := generalParam(id)
		isOwn := own != nil && id >= paramCtot && id <= paramDsum
		if bit == 0 && !isOwn {
			*extra = append(*extra, whole...)
			continue
		}
		if len(v) != word {
			return fmt.Errorf("parameter %d: %d bytes", id, len(v))
		}
		n := binary.BigEndian.Uint32(v)
		if isOwn {
			i := id - paramCtot
			if own.seen&(1<<i) != 0 {
				return fmt.Errorf("parameter %d twice", id)
			}
			own.seen |= 1 << i
			own.value[i] = n
			continue
		}
		if p.Set&bit != 0 {
			return fmt.Errorf("parameter %d twice", id)
		}
		p.Set |= bit
		switch id {
		case paramHops:
			p.Hops = n
		case paramBandwidth:
			p.Bandwidth = float(v)
		case paramLatency:
			p.Latency = n
		case paramMTU:
			p.MTU = n
		}
	}
	return nil
}

func generalParam(id uint8) intserv.Param {
	switch id {
	case paramHops:
		return intserv.ParamHops
	case paramBandwidth:
		return intserv.ParamBandwidth
	case paramLatency:
		return intserv.ParamLatency
	case paramMTU:
		return intserv.ParamMTU
	}
	return 0
}
