package wire

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDClassRFC2996Section2 has the figure's layout: the code point stands in
// the six high bits of the last byte; the rest is unused.
func TestDClassRFC2996Section2(t *testing.T) {
	body := golden(t, DClass(10, 12, 14), "0010 e101 00000028 00000030 00000038")
	body[0], body[3] = 0xff, body[3]|3
	got, err := ParseDClass(Object{ClassDClass, 1, body})
	if err != nil || !cmp.Equal(got, []uint8{10, 12, 14}) {
		t.Errorf("%v, %v", got, err)
	}
	for name, o := range map[string]Object{
		"no code point": {ClassDClass, 1, nil}, "half a word": {ClassDClass, 1, []byte{0, 0}},
		"C-Type": {ClassDClass, 2, body}, "class": {ClassStyle, 1, body},
	} {
		if _, err := ParseDClass(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestDClassTravels: it stays with its flow descriptor, byte for byte.
func TestDClassTravels(t *testing.T) {
	m := four.samples()["resv-ff"]
	m.Flows[0].Unknown = []Object{DClass(46)}
	got, err := Parse(encode(t, m))
	if err != nil {
		t.Fatal(err)
	}
	if d, err := FindDClass(got.Flows[0].Unknown); err != nil || !cmp.Equal(d, []uint8{46}) {
		t.Errorf("%v, %v", d, err)
	}
	if d, err := FindDClass(got.Flows[1].Unknown); err != nil || d != nil {
		t.Errorf("second flow: %v, %v", d, err)
	}
}
