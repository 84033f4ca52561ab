package wire

import (
	"strings"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

const tspecHex = "7f000005 45bb8000 45bb8000 7f800000 00000040 000005dc"

// TestSenderTSpecRFC2210Section3_1 has the figure's layout and lengths.
func TestSenderTSpecRFC2210Section3_1(t *testing.T) {
	body := golden(t, senderTSpec{new(tspec())}, "0024 0c02 00000007 01000006"+tspecHex)
	got, more, err := decodeSenderTSpec(body)
	if err != nil || more || got != tspec() {
		t.Errorf("decoded %v, %v, %v", got, more, err)
	}
}

func TestSenderTSpecRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"empty":           {"", "no message header"},
		"version":         {"10000007 01000006" + tspecHex, "version"},
		"overall length":  {"00000008 01000006" + tspecHex, "overall length"},
		"fragment length": {"00000007 01000007" + tspecHex, "fragment of service 1"},
		"short fragment":  {"00000007 01000005" + tspecHex, "behind the last fragment"},
		"no fragment":     {"00000000", "fragment header"},
		"empty fragment":  {"00000001 01000000", "no token bucket"},
		"wrong service":   {"00000007 05000006" + tspecHex, "service number 5"},
		"trailing":        {"00000008 01000006" + tspecHex + "07000000", "behind the last fragment"},
		"null, empty":     {"00000008 01000006" + tspecHex + "06000000", "null service without its TSpec"},
		"null, trailing":  {"0000000b 01000006" + tspecHex + "06000002 80000001 000005dc 07000000", "behind the last fragment"},
		"null alone, bad": {"00000003 06000002 80000001 00000000", "null service without a packet size"},
		"param length":    {"00000006 01000005 7f000004 45bb8000 45bb8000 7f800000 00000040", "parameter 127"},
		"twice":           {"0000000d 0100000c" + tspecHex + tspecHex, "twice"},
		"r NaN":           {"00000007 01000006 7f000005 7fc00000 45bb8000 7f800000 00000040 000005dc", "not a number"},
		"r negative zero": {"00000007 01000006 7f000005 80000000 45bb8000 7f800000 00000040 000005dc", "negative"},
		"b infinite":      {"00000007 01000006 7f000005 45bb8000 7f800000 7f800000 00000040 000005dc", "infinite"},
		"p negative inf":  {"00000007 01000006 7f000005 45bb8000 45bb8000 ff800000 00000040 000005dc", "negative"},
		"r below 1":       {"00000007 01000006 7f000005 3f000000 45bb8000 7f800000 00000040 000005dc", "out of range"},
	} {
		if _, _, err := decodeSenderTSpec(unhex(tc.in)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// TestSenderTSpecExtra: parameters not known, here the Compression_Hint of RFC
// 3006, travel on with the object.
func TestSenderTSpecExtra(t *testing.T) {
	m := four.samples()["path"]
	m.RawTSpec = &Object{
		Class: ClassSenderTSpec, CType: 2,
		Body: unhex("0000000a 01000009" + tspecHex + "80000002 11223344 55667788"),
	}
	got, err := Parse(encode(t, m))
	if err != nil {
		t.Fatal(err)
	}
	if *got.SenderTSpec != tspec() || got.RawTSpec == nil || string(got.RawTSpec.Body) != string(m.RawTSpec.Body) {
		t.Errorf("%v, raw %v", got.SenderTSpec, got.RawTSpec)
	}
}

func TestSenderTSpecCisco(t *testing.T) {
	got, _, err := decodeSenderTSpec(unhex("00000007 01000006 7f000005 45bb8000 45bb8000 45bb8000 00000000 7fffffff"))
	if want := (intserv.TSpec{Rate: 6000, Bucket: 6000, Peak: 6000, MaxPacket: 0x7fffffff}); err != nil || got != want {
		t.Errorf("%v, %v", got, err)
	}
}
