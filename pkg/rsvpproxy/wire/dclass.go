package wire

import "encoding/binary"

// DClass returns the DCLASS object that names code points, each of six bits
// (RFC 2996 section 2). It belongs into the Unknown objects of a message or
// flow descriptor: its class travels through those who do not know it.
func DClass(dscps ...uint8) Object {
	o := Object{Class: ClassDClass, CType: ctypeOnly}
	for _, d := range dscps {
		o.Body = append(o.Body, 0, 0, 0, d<<2)
	}
	return o
}

// ParseDClass returns the code points of a DCLASS object: the six high bits of
// every word's last byte. What else the words hold is unused.
func ParseDClass(o Object) ([]uint8, error) {
	switch {
	case o.Class != ClassDClass:
		return nil, malformed(KindIllegalClass, o.Class, "no DCLASS")
	case o.CType != ctypeOnly:
		return nil, unknownCType(o.Class, o.CType)
	case len(o.Body) == 0 || len(o.Body)%4 != 0:
		return nil, badSize(o.Class, o.CType, o.Body)
	}
	dscps := make([]uint8, 0, len(o.Body)/4)
	for b := o.Body; len(b) > 0; b = b[4:] {
		dscps = append(dscps, uint8(binary.BigEndian.Uint32(b)>>2&0x3f))
	}
	return dscps, nil
}

// FindDClass returns the code points of the first DCLASS among objects, nil if
// there is none.
func FindDClass(objects []Object) ([]uint8, error) {
	for _, o := range objects {
		if o.Class == ClassDClass {
			return ParseDClass(o)
		}
	}
	return nil, nil
}
