package wire

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func bundle() *Message {
	all := reduced()
	return &Message{
		Type: Bundle, Flags: RefreshReduction, SendTTL: 255,
		Bundle: []*Message{all["path4"], all["resv-ff4"], all["ack"], all["list"]},
	}
}

// RFC 2961 section 3: what goes in comes out, message by message.
func TestBundleRFC2961Section3(t *testing.T) {
	m := bundle()
	b := encode(t, m)
	if m.Length() != len(b) {
		t.Errorf("Length %d, wrote %d bytes", m.Length(), len(b))
	}
	header, subs, err := SplitBundle(b)
	if err != nil || header.Type != Bundle || header.Flags != 1 || header.SendTTL != 255 || len(subs) != 4 {
		t.Fatalf("%+v, %d, %v", header, len(subs), err)
	}
	for i, sub := range subs {
		got, err := reduce.Parse(sub)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(m.Bundle[i], got, cmpOptions); d != "" {
			t.Error(d)
		}
	}
	for n := range b {
		if _, _, err := SplitBundle(b[:n]); err == nil {
			t.Errorf("prefix of %d bytes accepted", n)
		}
		if n < commonHeader {
			continue
		}
		if _, subs, err := SplitBundle(reseal(bytes.Clone(b[:n]))); err == nil && (len(subs) == 0 || len(subs) == 4) {
			t.Errorf("resealed prefix of %d bytes: %d messages", n, len(subs))
		}
	}
}

// RFC 2961 section 3.1: a bundle's checksum may be missing, or its
// sub-messages' may be; a wrong one discards it.
func TestBundleChecksumRFC2961Section3_1(t *testing.T) {
	b := encode(t, bundle())
	b[2], b[3] = 0, 0
	b[8+2], b[8+3] = 0, 0
	_, subs, err := SplitBundle(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reduce.Parse(subs[0]); err != nil {
		t.Error(err)
	}
	b[2] = 1
	if _, _, err := SplitBundle(b); asError(t, err).Kind != KindChecksum {
		t.Error(err)
	}
}

// RFC 2961 section 3.2: at least one sub-message, and no bundle among them.
func TestBundleRefusesRFC2961Section3_2(t *testing.T) {
	inner := encode(t, bundle())
	header := []byte{version << 4, byte(Bundle), 0, 0, 255, 0, 0, 0}
	for name, tt := range map[string]struct {
		b    []byte
		want Kind
	}{
		"empty":   {reseal(bytes.Clone(header)), KindShort},
		"nested":  {reseal(append(bytes.Clone(header), inner...)), KindType},
		"no":      {encode(t, reduced()["ack"]), KindType},
		"version": {reseal([]byte{2 << 4, byte(Bundle), 0, 0, 0, 0, 0, 0}), KindVersion},
		"rest":    {reseal(append(bytes.Clone(header), 0x10, 13, 0, 0)), KindShort},
		"zero":    {reseal(append(bytes.Clone(header), 0x10, 13, 0, 0, 1, 0, 0, 0)), KindLength},
	} {
		if _, _, err := SplitBundle(tt.b); err == nil || asError(t, err).Kind != tt.want {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	big := &Message{Type: Srefresh, Lists: []MessageIDList{{IDs: make([]ListedID, 16000)}}}
	for name, m := range map[string]*Message{
		"empty": {Type: Bundle}, "nested": {Type: Bundle, Bundle: []*Message{bundle()}},
		"broken": {Type: Bundle, Bundle: []*Message{{Type: Path}}}, "long": {Type: Bundle, Bundle: []*Message{big, big}},
	} {
		if b, err := m.Append([]byte{1}); err == nil || len(b) != 1 {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
}

// FuzzReduction: as FuzzParse, with RFC 2961, and for bundles as well.
func FuzzReduction(f *testing.F) {
	for _, m := range reduced() {
		f.Add(encode(f, m))
	}
	f.Add(encode(f, bundle()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= commonHeader && len(b) <= MaxMessage {
			b = reseal(bytes.Clone(b))
		}
		if IsBundle(b) {
			_, subs, err := SplitBundle(b)
			if err != nil {
				_ = asError(t, err)
				return
			}
			if got := slices.Concat(subs...); !bytes.Equal(got, b[commonHeader:]) {
				t.Fatalf("%x is not what %x holds", got, b)
			}
			b = subs[0]
		}
		m, err := reduce.Parse(b)
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
		again, err := reduce.Parse(sent)
		if err != nil {
			t.Fatalf("%x: %v", sent, err)
		}
		if d := cmp.Diff(m, again, cmpOptions); d != "" {
			t.Fatal(d)
		}
	})
}

// TestReductionTshark has an implementation that is not ours read all of it.
func TestReductionTshark(t *testing.T) {
	all := reduced()
	all["bundle"] = &Message{
		Type: Bundle, Flags: RefreshReduction, SendTTL: 255,
		Bundle: []*Message{all["path4"], all["resv-ff4"], all["ack"], all["list"]},
	}
	for _, m := range all {
		if m.AdSpec != nil {
			m.AdSpec.Unknown = nil
		}
	}
	delete(all, "mcastlist6") // sent in IPv4 below, which tshark need not like
	delete(all, "srclist6")
	checkTshark(t, slices.Sorted(maps.Keys(all)), all)
}
