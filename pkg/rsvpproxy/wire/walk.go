package wire

import "encoding/binary"

// walk hands the objects of b to f, one by one, until one is refused. Every
// object's length is checked before its contents are touched.
func walk(b []byte, f func(class Class, ctype uint8, body []byte) error) error {
	for len(b) > 0 {
		class, ctype, body, err := nextObject(b)
		if err != nil {
			return err
		}
		if err := f(class, ctype, body); err != nil {
			return err
		}
		b = b[objectHeader+len(body):]
	}
	return nil
}

// nextObject takes the first object of b apart.
func nextObject(b []byte) (class Class, ctype uint8, body []byte, err error) {
	if len(b) < objectHeader {
		return 0, 0, nil, malformed(KindObjectLength, 0, "%d bytes left", len(b))
	}
	n := int(binary.BigEndian.Uint16(b))
	class = Class(b[2])
	if n < objectHeader || n%4 != 0 || n > len(b) {
		return 0, 0, nil, malformed(KindObjectLength, class, "length %d, %d bytes left", n, len(b))
	}
	return class, b[3], b[objectHeader:n], nil
}

// errorOf returns err, which may be a nil *Error, as an error.
func errorOf(err *Error) error {
	if err == nil {
		return nil
	}
	return err
}
