package wire

import "testing"

// TestFilterRFC2205AppendixA9 has the figure's layout, for both roles.
func TestFilterRFC2205AppendixA9(t *testing.T) {
	for _, tc := range []struct {
		f                Filter
		ctype            uint8
		filter, template string
	}{
		{
			Filter{Src: ip("10.1.12.1"), SrcPort: 4000},
			1,
			"000c 0a01 0a010c01 0000 0fa0", "000c 0b01 0a010c01 0000 0fa0",
		},
		{
			Filter{Src: ip("2001:db8::1")},
			2,
			"0018 0a02 20010db8000000000000000000000001 0000 0000",
			"0018 0b02 20010db8000000000000000000000001 0000 0000",
		},
	} {
		golden(t, senderTemplate{&tc.f}, tc.template)
		body := golden(t, filterSpec{&tc.f}, tc.filter)
		if got, err := decodeFilter(ClassFilterSpec, tc.ctype, body); err != nil || got != tc.f {
			t.Errorf("decoded %v, %v", got, err)
		}
	}
	// RFC 2205 section 3.10, rule 2.
	_, err := decodeFilter(ClassSenderTemplate, 77, make([]byte, 20))
	if err == nil || err.Code != ErrUnknownCType || err.Value != 0x0b4d {
		t.Errorf("C-Type 77: %v", err)
	}
}

// TestFilterPortsRFC2205Section3_2: rule 2 forbids a SrcPort where there is no
// DstPort; the reverse is legal.
func TestFilterPortsRFC2205Section3_2(t *testing.T) {
	session := Session{Dst: four.dst, Protocol: 17}
	if err := (Filter{Src: four.src, SrcPort: 7}).check(session, ClassFilterSpec); err == nil || err.Kind != KindSourcePort || err.Respond {
		t.Errorf("source port alone: %v", err)
	}
	if err := (Filter{Src: four.src}).check(session, ClassFilterSpec); err != nil {
		t.Errorf("no ports: %v", err)
	}
	session.DstPort = 80
	if err := (Filter{Src: four.src}).check(session, ClassFilterSpec); err != nil {
		t.Errorf("destination port alone: %v", err)
	}
}

func TestFilterAddress(t *testing.T) {
	session := Session{Dst: four.dst, Protocol: 17}
	for _, src := range []string{"0.0.0.0", "224.0.0.1", "2001:db8::1", "::"} {
		if err := (Filter{Src: ip(src)}).check(session, ClassFilterSpec); err == nil || err.Kind != KindAddress {
			t.Errorf("%s: %v", src, err)
		}
	}
}
