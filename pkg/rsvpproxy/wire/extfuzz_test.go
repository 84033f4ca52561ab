package wire

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func resealed(b []byte) []byte {
	if len(b) >= commonHeader && len(b) <= MaxMessage {
		return reseal(append([]byte{}, b...))
	}
	return b
}

// FuzzFormats: what ParseWith accepts is built to bytes that mean the same.
func FuzzFormats(f *testing.F) {
	for _, m := range formatSamples() {
		f.Add(encode(f, m))
	}
	m := four.samples()["resv-ff"]
	m.SOI = []Session{sessionFormats[4].s}
	f.Add(encode(f, m))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseWith(resealed(b), acceptAll)
		if err != nil {
			if e := asError(t, err); e.Respond != (m != nil) {
				t.Fatalf("%+v with message %+v", e, m)
			}
			return
		}
		if len(m.BadFlows) > 0 {
			return
		}
		sent, err := m.Append(nil)
		if err != nil {
			if asError(t, err).Kind == KindTooLong {
				return
			}
			t.Fatalf("%+v: %v", m, err)
		}
		again, err := ParseWith(sent, acceptAll)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(m, again, cmpOptions); d != "" {
			t.Fatal(d)
		}
	})
}

// FuzzDiag: what ParseDiag accepts is built again, to the same meaning.
func FuzzDiag(f *testing.F) {
	for _, d := range allDiags() {
		f.Add(encodeDiag(f, d))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDiag(resealed(b))
		if err != nil {
			if d != nil || asError(t, err).Respond {
				t.Fatalf("%+v, %v", d, err)
			}
			return
		}
		sent, err := d.Append(nil)
		if err != nil {
			t.Fatalf("%+v: %v", d, err)
		}
		again, err := ParseDiag(sent)
		if err != nil {
			t.Fatalf("%x: %v", sent, err)
		}
		if d := cmp.Diff(d, again, diagOptions); d != "" {
			t.Fatal(d)
		}
		if fresh := d.Type == DiagRequest && !d.Started(); FreshRequest(sent) != fresh {
			t.Fatalf("%x: fresh %v", sent, !fresh)
		}
		for i := range d.Responses {
			r := d.Responses[i].Report()
			if n := len(r.Objects(nil)); n > len(d.Responses[i].Objects) {
				t.Fatalf("%d objects of %d", n, len(d.Responses[i].Objects))
			}
		}
	})
}

// FuzzHandshake: the same of the integrity handshake; and Open agrees with it
// on where INTEGRITY is.
func FuzzHandshake(f *testing.F) {
	for _, h := range handshakes() {
		f.Add(sealed(f, h))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = resealed(b)
		h, err := ParseHandshake(b)
		if err != nil {
			if h != nil || asError(t, err).Respond {
				t.Fatalf("%+v, %v", h, err)
			}
			return
		}
		sent, err := h.Append(nil)
		if err != nil {
			t.Fatalf("%+v: %v", h, err)
		}
		again, err := ParseHandshake(sent)
		if err != nil || !cmp.Equal(h, again) {
			t.Fatalf("%+v, %+v, %v", h, again, err)
		}
		if e, err := Open(b); err == nil && e.Signed != (h.Integrity != nil) {
			t.Fatalf("%+v, %+v", e, h)
		}
	})
}

// FuzzOpen: the places that it names are inside the message and hold INTEGRITY.
func FuzzOpen(f *testing.F) {
	for _, m := range samples() {
		f.Add(encode(f, m))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = resealed(b)
		e, err := Open(b)
		if err != nil {
			if asError(t, err).Error() == "" {
				t.Fatal("an error without a word")
			}
			return
		}
		if e.Start < commonHeader || e.End < e.Start || e.End > len(b) {
			t.Fatalf("%+v of %d bytes", e, len(b))
		}
		if e.Signed && (b[e.Start+2] != uint8(ClassIntegrity) || !bytes.Equal(e.Integrity.Digest, b[e.DigestAt:e.End])) {
			t.Fatalf("%+v in %x", e, b)
		}
	})
}

// FuzzPolicy: POLICY_DATA, its options, priorities and identities.
func FuzzPolicy(f *testing.F) {
	for _, fam := range []family{four, six} {
		p, _ := policySample(fam)
		o, err := p.Object()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(o.Body)
	}
	f.Add(unhex("0008 0000 00000001"))
	f.Add(unhex("000c 0000 00000301"))
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > MaxMessage-commonHeader-objectHeader {
			return
		}
		p, err := ParsePolicy(Object{ClassPolicyData, 1, body})
		if err != nil {
			if e := asError(t, err); p != nil || e.Code != ErrPolicy {
				t.Fatalf("%+v, %v", p, err)
			}
			return
		}
		o, err := p.Object()
		if err != nil {
			t.Fatal(err)
		}
		if body[2]|body[3] == 0 && !bytes.Equal(o.Body, body) {
			t.Fatalf("%x\n%x", body, o.Body)
		}
		if options, err := p.Read(); err == nil {
			again, err := (&PolicyData{Options: options.Objects()}).Read()
			if err != nil || !cmp.Equal(options, again, cmpOptions) {
				t.Fatalf("%+v, %+v, %v", options, again, err)
			}
		}
		for _, e := range p.Elements {
			if x, err := ParsePreemption(e); err == nil {
				if again, err := ParsePreemption(x.Element()); err != nil || again != x {
					t.Fatalf("%+v, %+v, %v", x, again, err)
				}
			}
			if id, err := ParseIdentity(e); err == nil {
				el, err := id.Element()
				if err != nil {
					t.Fatal(err)
				}
				if again, err := ParseIdentity(el); err != nil || !cmp.Equal(id, again, cmpOptions) {
					t.Fatalf("%+v, %+v, %v", id, again, err)
				}
			}
		}
	})
}
