package wire

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzParse: what is accepted can be built again, means the same then, and is
// built to the same bytes from there on. What is refused is refused with an
// Error, and with a message exactly when it is to be answered.
func FuzzParse(f *testing.F) {
	for _, m := range samples() {
		f.Add(encode(f, m))
	}
	for _, m := range nullSamples() {
		f.Add(encode(f, m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= commonHeader && len(b) <= MaxMessage {
			b = reseal(append([]byte{}, b...)) // get past length and checksum
		}
		m, err := Parse(b)
		if err != nil {
			if e := asError(t, err); e.Respond != (m != nil) || e.Kind.String() == "unknown" || e.Error() == "" {
				t.Fatalf("%+v with message %+v", e, m)
			}
			return
		}
		if len(m.BadFlows) > 0 {
			return // Append leaves them out: the message is another one
		}
		sent, err := m.Append(nil)
		if err != nil {
			// Only FLOWSPECs that were left out can make a message too long.
			if asError(t, err).Kind == KindTooLong {
				return
			}
			t.Fatalf("%+v: %v", m, err)
		}
		if len(sent) != m.Length() {
			t.Fatalf("Length %d, wrote %d bytes", m.Length(), len(sent))
		}
		again, err := Parse(sent)
		if err != nil {
			t.Fatalf("%x: %v", sent, err)
		}
		if d := cmp.Diff(m, again, cmpOptions); d != "" {
			t.Fatal(d)
		}
		if b, err := again.Append(nil); err != nil || !bytes.Equal(b, sent) {
			t.Fatalf("not stable: %x, %x, %v", sent, b, err)
		}
	})
}

// FuzzObject feeds one object of any class to every message that may hold it,
// in its place.
func FuzzObject(f *testing.F) {
	all := samples()
	for name, m := range nullSamples() {
		all["null/"+name] = m
	}
	for _, m := range all {
		for _, o := range parts(m) {
			class, ctype := o.header()
			f.Add(uint8(class), ctype, o.appendBody(nil))
		}
	}
	f.Fuzz(func(t *testing.T, class, ctype uint8, body []byte) {
		if len(body) > 1<<12 {
			return
		}
		fuzzed := Object{Class: Class(class), CType: ctype, Body: body}
		for _, m := range four.samples() {
			os := append([]object{fuzzed}, parts(m)...)
			for i, o := range os[1:] {
				if c, _ := o.header(); c == fuzzed.Class {
					os[i+1], os = fuzzed, os[1:]
					break
				}
			}
			got, err := Parse(raw(m.Type, os...))
			if err != nil {
				if e := asError(t, err); e.Respond != (got != nil) {
					t.Fatalf("%v: %+v with message %+v", m.Type, e, got)
				}
				continue
			}
			if len(got.BadFlows) > 0 {
				continue
			}
			again, err := Parse(encode(t, got))
			if err != nil {
				t.Fatalf("%v: %v", m.Type, err)
			}
			if d := cmp.Diff(got, again, cmpOptions); d != "" {
				t.Fatal(d)
			}
		}
	})
}

// FuzzIntServ: integrated-services data that is accepted whole is written back
// so that it reads the same.
func FuzzIntServ(f *testing.F) {
	spec := tspec()
	f.Add(senderTSpec{&spec}.appendBody(nil))
	f.Add(flowSpec{controlledLoad()}.appendBody(nil))
	f.Add(flowSpec{guaranteed()}.appendBody(nil))
	f.Add(adSpec{adspec()}.appendBody(nil))
	f.Add(unhex("0000000a" + generalHex + "02800000"))
	f.Add(unhex("00000009 02000009" + guaranteedHex))
	f.Fuzz(func(t *testing.T, body []byte) {
		if s, _, err := decodeSenderTSpec(body); err == nil {
			if got, more, err := decodeSenderTSpec(senderTSpec{&s}.appendBody(nil)); err != nil || more || got != s {
				t.Fatalf("TSpec %v: %v, %v", s, got, err)
			}
		}
		if s, _, err := decodeFlowSpec(body); err == nil {
			if got, more, err := decodeFlowSpec(flowSpec{&s}.appendBody(nil)); err != nil || more || got != s {
				t.Fatalf("FlowSpec %v: %v, %v", s, got, err)
			}
		}
		if a, err := decodeAdSpec(body); err == nil {
			if err := checkAdSpec(a); err != nil {
				t.Fatal(err)
			}
			b := adSpec{a}.appendBody(nil)
			if len(b) != (adSpec{a}).size() {
				t.Fatalf("size %d, wrote %d", (adSpec{a}).size(), len(b))
			}
			if got, err := decodeAdSpec(b); err != nil || !got.Equal(*a) {
				t.Fatalf("ADSPEC %+v: %+v, %v", a, got, err)
			}
		}
	})
}
