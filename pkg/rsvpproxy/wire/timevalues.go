package wire

import (
	"encoding/binary"
	"time"
)

// TimeValues is the TIME_VALUES object (RFC 2205 Appendix A.4).
type TimeValues struct {
	Refresh uint32 // refresh period R, milliseconds
}

// Period returns R as a duration.
func (t TimeValues) Period() time.Duration { return time.Duration(t.Refresh) * time.Millisecond }

func (t TimeValues) header() (Class, uint8) { return ClassTimeValues, ctypeOnly }
func (t TimeValues) size() int              { return 4 }

func (t TimeValues) appendBody(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, t.Refresh)
}

func decodeTimeValues(ctype uint8, body []byte) (*TimeValues, *Error) {
	switch {
	case ctype != ctypeOnly:
		return nil, unknownCType(ClassTimeValues, ctype)
	case len(body) != 4:
		return nil, badSize(ClassTimeValues, ctype, body)
	}
	return &TimeValues{Refresh: binary.BigEndian.Uint32(body)}, nil
}
