package wire

import (
	"errors"
	"fmt"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// senderTSpec is the SENDER_TSPEC object (RFC 2210 section 3.1); of a sender that
// offers the null service only, it holds that (RFC 2997 section 3.2).
type senderTSpec struct{ *intserv.TSpec }

func (senderTSpec) header() (Class, uint8) { return ClassSenderTSpec, ctypeIntServ }

func (t senderTSpec) size() int {
	if t.Null() {
		return word * (3 + nullWords)
	}
	return word * (3 + tspecWords)
}

func (t senderTSpec) appendBody(b []byte) []byte {
	if t.Null() {
		return appendNull(appendHeader(b, 0, 0, 2+nullWords), t.MaxPacket)
	}
	b = appendHeader(b, 0, 0, 2+tspecWords)
	b = appendHeader(b, uint8(intserv.General), 0, 1+tspecWords)
	return appendTSpec(b, *t.TSpec)
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
	case f.service == intserv.Null && len(rest) == 0:
		return decodeNull(f.data)
	case f.service != intserv.General:
		return t, false, fmt.Errorf("service number %d", f.service)
	}
	also, err := nullFollows(rest)
	if err != nil {
		return t, false, err
	}
	s, err := decodeSpecs(f.data)
	switch {
	case err != nil:
		return t, false, err
	case !s.hasTSpec:
		return t, false, errors.New("no token bucket")
	}
	return s.tspec, also || s.more || s.hasR, s.tspec.Validate()
}

// nullFollows says whether the null service's TSpec stands behind the token
// bucket (RFC 2997 section 3.2). Nothing else may.
func nullFollows(b []byte) (bool, error) {
	if len(b) == 0 {
		return false, nil
	}
	if intserv.Service(b[0]) != intserv.Null {
		return false, errTrailing
	}
	f, rest, err := nextFragment(b)
	switch {
	case err != nil:
		return false, err
	case len(rest) > 0:
		return false, errTrailing
	}
	_, _, err = decodeNull(f.data)
	return true, err
}
