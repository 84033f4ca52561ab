// Package dscp names the DiffServ code points: the PHB names of the config
// file and of every view, their six-bit values (RFC 2474), and the service
// classes that they stand for (RFC 4594).
package dscp

import (
	"fmt"
	"strconv"
	"strings"
)

// Code points that have a name of their own (six bits, not the TOS byte).
const (
	Default    = 0  // RFC 2474 4.1, the same code point as CS0
	LE         = 1  // RFC 8622
	VoiceAdmit = 44 // RFC 5865 3
	EF         = 46 // RFC 3246, RFC 2598 2.3
)

// Code points of the class selectors (RFC 2474 4.2.2) and of assured forwarding
// (RFC 2597 6).
const (
	CS1  = 8
	CS2  = 16
	CS3  = 24
	CS4  = 32
	CS5  = 40
	CS6  = 48
	AF11 = 10
	AF12 = 12
	AF13 = 14
	AF21 = 18
	AF22 = 20
	AF23 = 22
	AF31 = 26
	AF32 = 28
	AF33 = 30
	AF41 = 34
	AF42 = 36
	AF43 = 38
)

// Max is the greatest code point: the field has six bits.
const Max = 63

// names holds the name of each code point, "" where there is none. It is
// built from the class structure of RFC 2474 4.2.2 (class selectors: the
// upper three bits) and RFC 2597 6 (assured forwarding: class in the upper
// three bits, drop precedence in the next two).
var names = func() (t [Max + 1]string) {
	for c := range 8 {
		t[c<<3] = "cs" + strconv.Itoa(c)
	}
	for class := 1; class <= 4; class++ {
		for drop := 1; drop <= 3; drop++ {
			t[class<<3|drop<<1] = fmt.Sprintf("af%d%d", class, drop)
		}
	}
	t[Default] = "default"
	t[LE] = "le"
	t[VoiceAdmit] = "voice-admit"
	t[EF] = "ef"
	return t
}()

var values = func() map[string]uint8 {
	m := map[string]uint8{"cs0": Default, "df": Default}
	for _, c := range classes {
		m[c.Name] = c.Codes[0]
	}
	for v, n := range names {
		if n != "" {
			m[n] = uint8(v)
		}
	}
	return m
}()

// Parse reads a PHB name (ef, voice-admit, cs0-cs7, af11-af43, le, default),
// the name of a service class, or a decimal code point from 0 to 63.
func Parse(s string) (uint8, error) {
	if v, ok := values[s]; ok {
		return v, nil
	}
	if isDigits(s) && len(s) <= 2 {
		if v, err := strconv.ParseUint(s, 10, 8); err == nil && v <= Max {
			return uint8(v), nil
		}
	}
	if lower := strings.ToLower(s); lower != s {
		if _, ok := values[lower]; ok {
			return 0, fmt.Errorf("unknown PHB %q: names are in lower case, write %s", s, lower)
		}
	}
	return 0, fmt.Errorf("unknown PHB %q: use ef, voice-admit, cs0 to cs7, af11 to af43, le, default, a service class of RFC 4594 such as telephony, or a number from 0 to 63", s)
}

// Name returns the PHB name of a code point, or its decimal number where the
// code point has no name.
func Name(v uint8) string {
	if int(v) < len(names) && names[v] != "" {
		return names[v]
	}
	return strconv.Itoa(int(v))
}

func isDigits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}
