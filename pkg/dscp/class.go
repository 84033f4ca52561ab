package dscp

import "slices"

// Class is a service class of RFC 4594: a kind of traffic, and the code points
// that name it on the wire.
type Class struct {
	Name string // as in config files, in lower case
	// Codes are its code points. The first is what the name stands for where
	// one code point is to be given; those of assured forwarding follow by drop
	// precedence.
	Codes []uint8
	RFC   string // where it is defined, with the section
	// Admitted: only traffic that capacity admission let in may have these code
	// points (RFC 5865 sections 1 and 3).
	Admitted bool
}

// classes has the service classes in the order of RFC 4594 figure 3, with the
// changes by RFC 5865 (the admitted telephony class, and admission for three
// classes of video) and by RFC 8622 (LE in the place of CS1).
var classes = []Class{
	{Name: "network-control", Codes: []uint8{CS6}, RFC: "RFC 4594 section 3.2"},
	{Name: "telephony", Codes: []uint8{EF}, RFC: "RFC 4594 section 4.1"},
	{Name: "admitted-telephony", Codes: []uint8{VoiceAdmit}, RFC: "RFC 5865 section 2.3", Admitted: true},
	{Name: "signaling", Codes: []uint8{CS5}, RFC: "RFC 4594 section 4.2"},
	{Name: "multimedia-conferencing", Codes: []uint8{AF41, AF42, AF43}, RFC: "RFC 4594 section 4.3", Admitted: true},
	{Name: "real-time-interactive", Codes: []uint8{CS4}, RFC: "RFC 4594 section 4.4", Admitted: true},
	{Name: "multimedia-streaming", Codes: []uint8{AF31, AF32, AF33}, RFC: "RFC 4594 section 4.5"},
	{Name: "broadcast-video", Codes: []uint8{CS3}, RFC: "RFC 4594 section 4.6", Admitted: true},
	{Name: "low-latency-data", Codes: []uint8{AF21, AF22, AF23}, RFC: "RFC 4594 section 4.7"},
	{Name: "oam", Codes: []uint8{CS2}, RFC: "RFC 4594 section 3.3"},
	{Name: "high-throughput-data", Codes: []uint8{AF11, AF12, AF13}, RFC: "RFC 4594 section 4.8"},
	{Name: "standard", Codes: []uint8{Default}, RFC: "RFC 4594 section 4.9"},
	{Name: "low-priority-data", Codes: []uint8{LE, CS1}, RFC: "RFC 4594 section 4.10, RFC 8622 section 10"},
}

// Classes returns the service classes, in the order of RFC 4594.
func Classes() []Class {
	list := slices.Clone(classes)
	for i := range list {
		list[i].Codes = slices.Clone(list[i].Codes)
	}
	return list
}

// classOf holds the index of each code point's class, -1 where it has none.
var classOf = func() (t [Max + 1]int8) {
	for i := range t {
		t[i] = -1
	}
	for i, c := range classes {
		for _, v := range c.Codes {
			t[v] = int8(i)
		}
	}
	return t
}()

// ClassName returns the name of a code point's service class, "" where it has
// none.
func ClassName(v uint8) string {
	if v > Max || classOf[v] < 0 {
		return ""
	}
	return classes[classOf[v]].Name
}

// Admitted tells whether a code point is only for traffic that capacity
// admission let in.
func Admitted(v uint8) bool {
	return v <= Max && classOf[v] >= 0 && classes[classOf[v]].Admitted
}
