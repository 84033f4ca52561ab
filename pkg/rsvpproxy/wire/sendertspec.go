package wire

import (
	"errors"
	"fmt"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// senderTSpec is the SENDER_TSPEC object (RFC 2210 section 3.1).
type senderTSpec struct{ intserv.TSpec }

func (senderTSpec) header() (Class, uint8) { return ClassSenderTSpec, ctypeIntServ }
func (senderTSpec) size() int              { return word * (3 + tspecWords) }

func (t senderTSpec) appendBody(b []byte) []byte {
	b = appendHeader(b, 0, 0, 2+tspecWords)
	b = appendHeader(b, uint8(intserv.General), 0, 1+tspecWords)
	return appendTSpec(b, t.TSpec)
}

// decodeSenderTSpec also says whether the object holds more than the TSpec.
func decodeSenderTSpec(body []byte) (t intserv.TSpec, more bool, err error) {
	data, err := overall(body)
	if err != nil {
		return t, false, err
	}
	f, rest, err := nextFragment(data)
	switch {
	case err != nil:
		return t, false, err
	case f.service != intserv.General:
		return t, false, fmt.Errorf("service number %d", f.service)
	case len(rest) > 0:
		return t, false, errTrailing
	}
	s, err := decodeSpecs(f.data)
	switch {
	case err != nil:
		return t, false, err
	case !s.hasTSpec:
		return t, false, errors.New("no token bucket")
	}
	return s.tspec, s.more || s.hasR, s.tspec.Validate()
}
