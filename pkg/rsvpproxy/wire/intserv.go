package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// The layout that RFC 2210 Appendix 1 gives all integrated-services data: a
// message header, then per-service fragments, in them parameters, each with a
// one-word header that holds the length in words behind it.
const (
	word = 4

	breakBit = 0x80 // in the second byte of a fragment header

	paramTSpec = 127 // TOKEN_BUCKET_TSPEC: r, b, p, m, M
	paramRSpec = 130 // guaranteed-service RSpec: R, S
	paramNull  = 128 // TSpec of the null service: M (RFC 2997 section 4.3)
	tspecWords = 5
	nullWords  = 1
	rspecWords = 2
)

var errTrailing = errors.New("data behind the last fragment")

// overall strips the message header of integrated-services data.
func overall(body []byte) ([]byte, error) {
	if len(body) < word {
		return nil, errors.New("no message header")
	}
	if v := body[0] >> 4; v != 0 {
		return nil, fmt.Errorf("message format version %d", v)
	}
	words, have := int(binary.BigEndian.Uint16(body[2:])), len(body)/word-1
	// RFC 2210 section 3.2.2 says 9 in a footnote where its figure has 10: a
	// guaranteed-service FLOWSPEC one word short is that slip.
	if words != have && (words != have-1 || words != 9) {
		return nil, fmt.Errorf("overall length %d words, %d present", words, have)
	}
	return body[word:], nil
}

// fragment is the data of one service.
type fragment struct {
	service intserv.Service
	broken  bool
	data    []byte
}

func nextFragment(b []byte) (f fragment, rest []byte, err error) {
	if len(b) < word {
		return f, nil, errors.New("fragment header cut off")
	}
	n := word + word*int(binary.BigEndian.Uint16(b[2:]))
	if n > len(b) {
		return f, nil, fmt.Errorf("fragment of service %d is %d bytes, %d present", b[0], n, len(b))
	}
	return fragment{intserv.Service(b[0]), b[1]&breakBit != 0, b[word:n]}, b[n:], nil
}

// nextParam returns the first parameter: its number, all of it with its header,
// and its data.
func nextParam(b []byte) (id uint8, whole, data, rest []byte, err error) {
	if len(b) < word {
		return 0, nil, nil, nil, errors.New("parameter header cut off")
	}
	n := word + word*int(binary.BigEndian.Uint16(b[2:]))
	if n > len(b) {
		return 0, nil, nil, nil, fmt.Errorf("parameter %d is %d bytes, %d present", b[0], n, len(b))
	}
	return b[0], b[:n], b[word:n], b[n:], nil
}

func appendHeader(b []byte, id, flags uint8, words int) []byte {
	return binary.BigEndian.AppendUint16(append(b, id, flags), uint16(words))
}

func breakFlag(broken bool) uint8 {
	if broken {
		return breakBit
	}
	return 0
}

func appendFloat(b []byte, v float64) []byte {
	return binary.BigEndian.AppendUint32(b, math.Float32bits(float32(v)))
}

func float(b []byte) float64 {
	return float64(math.Float32frombits(binary.BigEndian.Uint32(b)))
}

func appendTSpec(b []byte, t intserv.TSpec) []byte {
	b = appendHeader(b, paramTSpec, 0, tspecWords)
	b = appendFloat(b, t.Rate)
	b = appendFloat(b, t.Bucket)
	b = appendFloat(b, t.Peak)
	b = binary.BigEndian.AppendUint32(b, t.MinUnit)
	return binary.BigEndian.AppendUint32(b, t.MaxPacket)
}

// appendNull writes the fragment of the null service.
func appendNull(b []byte, maxPacket uint32) []byte {
	b = appendHeader(b, uint8(intserv.Null), 0, 1+nullWords)
	b = appendHeader(b, paramNull, 0, nullWords)
	return binary.BigEndian.AppendUint32(b, maxPacket)
}

// decodeNull reads it. more says whether it holds what is not known here.
func decodeNull(data []byte) (t intserv.TSpec, more bool, err error) {
	has := false
	for len(data) > 0 {
		id, _, v, rest, err := nextParam(data)
		switch {
		case err != nil:
			return t, false, err
		case id != paramNull:
			more = true
		case has || len(v) != word*nullWords:
			return t, false, fmt.Errorf("parameter %d twice or of %d bytes", id, len(v))
		default:
			t.MaxPacket, has = binary.BigEndian.Uint32(v), true
		}
		data = rest
	}
	switch {
	case !has:
		return t, false, errors.New("null service without its TSpec")
	case t.MaxPacket == 0:
		return t, false, errors.New("null service without a packet size")
	}
	return t, more, nil
}

// specs is what a SENDER_TSPEC or FLOWSPEC fragment holds.
type specs struct {
	tspec          intserv.TSpec
	rspec          intserv.RSpec
	hasTSpec, hasR bool
	more           bool // parameters this package does not know
}

func decodeSpecs(data []byte) (s specs, err error) {
	for len(data) > 0 {
		id, _, v, rest, err := nextParam(data)
		if err != nil {
			return s, err
		}
		switch {
		case id == paramTSpec && len(v) == word*tspecWords && !s.hasTSpec:
			s.hasTSpec = true
			s.tspec = intserv.TSpec{
				Rate: float(v), Bucket: float(v[4:]), Peak: float(v[8:]),
				MinUnit: binary.BigEndian.Uint32(v[12:]), MaxPacket: binary.BigEndian.Uint32(v[16:]),
			}
		case id == paramRSpec && len(v) == word*rspecWords && !s.hasR:
			s.hasR = true
			s.rspec = intserv.RSpec{Rate: float(v), Slack: binary.BigEndian.Uint32(v[4:])}
		case id == paramTSpec || id == paramRSpec:
			return s, fmt.Errorf("parameter %d twice or of %d bytes", id, len(v))
		default:
			s.more = true
		}
		data = rest
	}
	return s, nil
}
