package wire

import "encoding/binary"

// walk hands the objects of b to f, one by one, until one is refused. Every
// object's length is checked before its contents are touched.
func walk(b []byte, f func(class Class, ctype uint8, body []byte) error) error {
	for len(b) > 0 {
		if len(b) < objectHeader {
			return malformed(KindObjectLength, 0, "%d bytes left", len(b))
		}
		n := int(binary.BigEndian.Uint16(b))
		class, ctype := Class(b[2]), b[3]
		if n < objectHeader || n%4 != 0 || n > len(b) {
			return malformed(KindObjectLength, class, "length %d, %d bytes left", n, len(b))
		}
		if err := f(class, ctype, b[objectHeader:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// errorOf returns err, which may be a nil *Error, as an error.
func errorOf(err *Error) error {
	if err == nil {
		return nil
	}
	return err
}
