package wire

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// flowSpec is the FLOWSPEC object (RFC 2210 section 3.2).
type flowSpec struct{ *intserv.FlowSpec }

func (flowSpec) header() (Class, uint8) { return ClassFlowSpec, ctypeIntServ }

// words counts the fragment's data.
func (f flowSpec) words() int {
	switch f.Service {
	case intserv.Guaranteed:
		return 1 + tspecWords + 1 + rspecWords
	case intserv.Null:
		return 1 + nullWords
	default:
		return 1 + tspecWords
	}
}

func (f flowSpec) size() int { return word * (2 + f.words()) }

func (f flowSpec) appendBody(b []byte) []byte {
	b = appendHeader(b, 0, 0, 1+f.words())
	if f.Service == intserv.Null {
		return appendNull(b, f.TSpec.MaxPacket)
	}
	b = appendHeader(b, uint8(f.Service), 0, f.words())
	b = appendTSpec(b, f.TSpec)
	if f.Service == intserv.Guaranteed {
		b = appendHeader(b, paramRSpec, 0, rspecWords)
		b = appendFloat(b, f.RSpec.Rate)
		b = binary.BigEndian.AppendUint32(b, f.RSpec.Slack)
	}
	return b
}

// decodeFlowSpec also says whether the object holds more than the FlowSpec.
func decodeFlowSpec(body []byte) (f intserv.FlowSpec, more bool, err error) {
	data, err := overall(body)
	if err != nil {
		return f, false, err
	}
	frag, rest, err := nextFragment(data)
	switch {
	case err != nil:
		return f, false, err
	case !frag.service.Known():
		return f, false, fmt.Errorf("%v: %w", frag.service, intserv.ErrService)
	case len(rest) > 0:
		return f, false, errTrailing
	case frag.service == intserv.Null:
		f.Service = intserv.Null
		f.TSpec, more, err = decodeNull(frag.data)
		return f, more, err
	}
	s, err := decodeSpecs(frag.data)
	guaranteed := frag.service == intserv.Guaranteed
	switch {
	case err != nil:
		return f, false, err
	case !s.hasTSpec:
		return f, false, errors.New("no token bucket")
	case guaranteed && !s.hasR:
		return f, false, errors.New("guaranteed service without RSpec")
	}
	f = intserv.FlowSpec{Service: frag.service, TSpec: s.tspec}
	if guaranteed {
		f.RSpec = s.rspec
	}
	return f, s.more || s.hasR != guaranteed, f.Validate()
}

// flowSpecError is what RFC 2205 Appendix B has a bad FLOWSPEC answered with.
func flowSpecError(err error) *Error {
	value := TCBadFlowSpec
	if errors.Is(err, intserv.ErrService) {
		value = TCServiceUnsupported
	}
	return trafficControl(ClassFlowSpec, value, err)
}
