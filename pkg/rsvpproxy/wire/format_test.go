package wire

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const acceptAll = AcceptGPI | AcceptAggregate | AcceptGenericAggregate

func extended(s string) (e [16]byte) {
	a := ip(s)
	copy(e[:], a.AsSlice())
	return e
}

// sessionFormats has a session and a filter of every format and family, with
// their objects' bytes.
var sessionFormats = []struct {
	name              string
	accept            Formats
	s                 Session
	f                 Filter
	session, template string
}{
	{
		"RFC 2207 IPv4/GPI", AcceptGPI,
		Session{Dst: ip("10.1.36.6"), Protocol: 50, Flags: SessionEPolice, DstPort: 8192, Format: FormatGPI},
		Filter{Src: ip("10.1.12.1"), Format: FormatGPI, SPI: 0xdeadbeef},
		"000c 0103 0a012406 32 01 2000", "000c 0b04 0a010c01 deadbeef",
	},
	{
		"RFC 2207 IPv6/GPI", AcceptGPI,
		Session{Dst: ip("2001:db8::6"), Protocol: 51, DstPort: 11, Format: FormatGPI},
		Filter{Src: ip("2001:db8::1"), Format: FormatGPI, SPI: 1},
		"0018 0104 20010db8000000000000000000000006 33 00 000b", "0018 0b05 20010db8000000000000000000000001 00000001",
	},
	{
		"RFC 3175 RSVP-AGGREGATE-IP4", AcceptAggregate,
		Session{Dst: ip("10.1.36.6"), Flags: SessionEPolice, DSCP: 46, Format: FormatAggregate},
		Filter{Src: ip("10.1.12.1"), Format: FormatAggregate},
		"000c 0109 0a012406 00 01 00 2e", "0008 0b09 0a010c01",
	},
	{
		"RFC 3175 RSVP-AGGREGATE-IP6", AcceptAggregate,
		Session{Dst: ip("2001:db8::6"), DSCP: 10, Format: FormatAggregate},
		Filter{Src: ip("2001:db8::1"), Format: FormatAggregate},
		"0018 010a 20010db8000000000000000000000006 00 00 00 0a", "0014 0b0a 20010db8000000000000000000000001",
	},
	{
		"RFC 4860 GENERIC-AGGREGATE-IP4", AcceptGenericAggregate,
		Session{
			Dst: ip("10.1.36.6"), Flags: SessionEPolice, PHB: 0xb800, DstPort: 7,
			Extended: extended("10.1.12.1"), Format: FormatGenericAggregate,
		},
		Filter{Src: ip("10.1.12.1"), Format: FormatAggregate},
		"0014 0111 0a012406 00 01 b800 0000 0007 0a010c01", "0008 0b09 0a010c01",
	},
	{
		"RFC 4860 GENERIC-AGGREGATE-IP6", AcceptGenericAggregate,
		Session{
			Dst: ip("2001:db8::6"), PHB: 0x2800, DstPort: 7,
			Extended: extended("2001:db8::1"), Format: FormatGenericAggregate,
		},
		Filter{Src: ip("2001:db8::1"), Format: FormatAggregate},
		"002c 0112 20010db8000000000000000000000006 00 00 2800 0000 0007 20010db8000000000000000000000001",
		"0014 0b0a 20010db8000000000000000000000001",
	},
}

// TestFormatsGolden has the layouts of RFC 2207 section 3, RFC 3175 section 3.3
// to 3.5 and RFC 4860 section 2.1.
func TestFormatsGolden(t *testing.T) {
	for _, tc := range sessionFormats {
		body := golden(t, tc.s, tc.session)
		_, ctype := tc.s.header()
		if got, err := tc.accept.session(ctype, body); err != nil || got != tc.s {
			t.Errorf("%s: session %+v, %v", tc.name, got, err)
		}
		for n := range body {
			if _, err := tc.accept.session(ctype, body[:n]); err == nil || err.Kind != KindObjectLength || err.CType != ctype {
				t.Errorf("%s: session cut at %d: %v", tc.name, n, err)
			}
		}
		if _, err := decodeSession(ctype, body); err == nil || err.Code != ErrUnknownCType || err.Value != 0x0100|uint16(ctype) {
			t.Errorf("%s: Parse knows the session: %v", tc.name, err)
		}
		body = golden(t, senderTemplate{&tc.f}, tc.template)
		_, ctype = senderTemplate{&tc.f}.header()
		if got, err := tc.accept.filter(ClassFilterSpec, ctype, body); err != nil || got != tc.f {
			t.Errorf("%s: filter %+v, %v", tc.name, got, err)
		}
		for n := range body {
			if _, err := tc.accept.filter(ClassFilterSpec, ctype, body[:n]); err == nil || err.Kind != KindObjectLength || err.CType != ctype {
				t.Errorf("%s: filter cut at %d: %v", tc.name, n, err)
			}
		}
		if _, err := decodeFilter(ClassFilterSpec, ctype, body); err == nil || err.Code != ErrUnknownCType {
			t.Errorf("%s: Parse knows the filter: %v", tc.name, err)
		}
	}
}

// formatSamples are messages with the formats beyond addresses and ports.
func formatSamples() map[string]*Message {
	all := map[string]*Message{}
	for _, tc := range sessionFormats {
		f := four
		if tc.s.Dst.Is6() {
			f = six
		}
		path, resv := f.samples()["path"], f.samples()["resv-ff"]
		path.Session, path.SenderTemplate = tc.s, &tc.f
		resv.Session, resv.Flows = tc.s, []FlowDescriptor{{FlowSpec: controlledLoad(), Filters: []Filter{tc.f}}}
		all[tc.name+" path"], all[tc.name+" resv"] = path, resv
	}
	return all
}

func TestFormatsRoundTrip(t *testing.T) {
	for name, m := range formatSamples() {
		b := encode(t, m)
		got, err := ParseWith(b, acceptAll)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := cmp.Diff(m, got, cmpOptions); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
		if d := cmp.Diff(b, encode(t, got)); d != "" {
			t.Errorf("%s encoded again:\n%s", name, d)
		}
		// A node without the extension cannot even name the session.
		if _, err := Parse(b); err == nil || asError(t, err).Kind != KindUnknownCType || asError(t, err).Respond {
			t.Errorf("%s: Parse: %v", name, err)
		}
		for n := commonHeader; n < len(b); n++ {
			got, err := ParseWith(reseal(append([]byte{}, b[:n]...)), acceptAll)
			if err == nil && len(encode(t, got)) != n {
				t.Errorf("%s: prefix of %d bytes read as %d", name, n, got.Length())
			}
		}
	}
}

// TestFormatMixRFC2207Section4_1: only the filters of its own format go with a
// session; the contrary is a message formatting error, and dropped. RFC 4860
// section 3.1 has the same of generic aggregates.
func TestFormatMixRFC2207Section4_1(t *testing.T) {
	ports := Session{Dst: four.dst, Protocol: 17, DstPort: 1}
	gpi := Session{Dst: four.dst, Protocol: 50, DstPort: 1, Format: FormatGPI}
	aggregate := Session{Dst: four.dst, Format: FormatAggregate}
	generic := Session{Dst: four.dst, Format: FormatGenericAggregate}
	for _, tc := range []struct {
		s  Session
		ok Format
	}{{ports, FormatPorts}, {gpi, FormatGPI}, {aggregate, FormatAggregate}, {generic, FormatAggregate}} {
		for f := FormatPorts; f <= FormatGenericAggregate; f++ {
			err := Filter{Src: four.src, Format: f}.check(tc.s, ClassFilterSpec)
			if (err == nil) != (f == tc.ok) || err != nil && (err.Kind != KindFormat || err.Respond) {
				t.Errorf("filter %v in session %v: %v", f, tc.s.Format, err)
			}
		}
	}
	m := four.samples()["path"]
	m.Session = gpi
	if _, err := ParseWith(raw(Path, parts(m)...), acceptAll); err == nil || asError(t, err).Kind != KindFormat {
		t.Errorf("Path: %v", err)
	}
	if _, err := m.Append(nil); err == nil || asError(t, err).Kind != KindFormat {
		t.Errorf("Append: %v", err)
	}
}

// TestSessionFormatCheck: RFC 2207 section 4.1 requires a virtual port that is
// not zero; an aggregate has no protocol, and six bits of DSCP.
func TestSessionFormatCheck(t *testing.T) {
	for s, want := range map[Session]Kind{
		{Dst: four.dst, Protocol: 50, Format: FormatGPI}:            KindFormat,
		{Dst: four.dst, DstPort: 1, Format: FormatGPI}:              KindProtocol,
		{Dst: four.dst, Protocol: 6, DstPort: 1, Format: FormatGPI}: KindFormat,
		{Dst: four.dst, DSCP: 64, Format: FormatAggregate}:          KindFormat,
		{Dst: four.dst, Protocol: 1, Format: 9}:                     KindFormat,
		{Format: FormatGenericAggregate}:                            KindAddress,
		{Dst: four.dst, Format: FormatAggregate, DSCP: 46}:          0,
		{Dst: four.dst, Format: FormatGenericAggregate, PHB: 1}:     0,
	} {
		err := s.check()
		if want == 0 != (err == nil) || err != nil && err.Kind != want {
			t.Errorf("%+v: %v, want %v", s, err, want)
		}
	}
}

func TestFormatStrings(t *testing.T) {
	for _, tc := range []struct{ got, want string }{
		{sessionFormats[0].s.String(), "10.1.36.6/50/gpi 8192"},
		{sessionFormats[0].f.String(), "10.1.12.1/spi 0xdeadbeef"},
		{sessionFormats[2].s.String(), "10.1.36.6/dscp 46"},
		{sessionFormats[2].f.String(), "10.1.12.1"},
		{sessionFormats[4].s.String(), "10.1.36.6/phb 0xb800/7/0a010c01"},
		{FormatGenericAggregate.String(), "generic-aggregate"},
		{Format(9).String(), "unknown"},
	} {
		if tc.got != tc.want {
			t.Errorf("%q, want %q", tc.got, tc.want)
		}
	}
}

// TestSOIRFC4860Section2_2: an end-to-end message names the aggregate session
// it goes into. Who does not know the object drops it (class 10bbbbbb).
func TestSOIRFC4860Section2_2(t *testing.T) {
	golden(t, soi{&sessionFormats[4].s}, "0014 8401 0a012406 00 01 b800 0000 0007 0a010c01")
	golden(t, soi{&sessionFormats[5].s},
		"002c 8402 20010db8000000000000000000000006 00 00 2800 0000 0007 20010db8000000000000000000000001")
	m := four.samples()["resv-ff"]
	m.SOI = []Session{sessionFormats[4].s}
	b := encode(t, m)
	got, err := ParseWith(b, AcceptGenericAggregate)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(m, got, cmpOptions); d != "" {
		t.Error(d)
	}
	if got, err := Parse(b); err != nil || got.SOI != nil {
		t.Errorf("Parse: %+v, %v", got, err)
	}
	for name, o := range map[string]Object{
		"short": {ClassSOI, 1, make([]byte, 12)}, "empty": {ClassSOI, 2, nil},
		"no address": {ClassSOI, 1, make([]byte, 16)},
	} {
		if _, err := ParseWith(raw(Resv, append(parts(m), o)...), acceptAll); err == nil || asError(t, err).Class != ClassSOI {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseWith(raw(Resv, append(parts(m), Object{ClassSOI, 9, nil})...), acceptAll); err != nil {
		t.Errorf("unknown C-Type: %v", err)
	}
	m.SOI[0].Format = FormatPorts
	if _, err := m.Append(nil); err == nil || asError(t, err).Kind != KindFormat {
		t.Errorf("Append: %v", err)
	}
}
