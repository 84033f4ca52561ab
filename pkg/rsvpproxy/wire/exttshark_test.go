package wire

import (
	"strings"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/roottest/dissect"
)

// tsharkReads has tshark read one message of IPv4 and returns all it prints.
func tsharkReads(t *testing.T, msg []byte) string {
	t.Helper()
	return dissect.Tshark(t, dissect.File(t, [][]byte{dissect.Packet(t, four.src, four.dst, 64, msg)}), "-V")
}

// TestTsharkExtensions: tshark knows INTEGRITY, DCLASS and the sessions of RFC
// 3175; of the others it is asked whether the checksum is right and nothing
// malformed.
func TestTsharkExtensions(t *testing.T) {
	dclass := four.samples()["resv-ff"]
	dclass.Flows[0].Unknown = []Object{DClass(46, 10)}
	p, _ := policySample(four)
	policy, err := p.Object()
	if err != nil {
		t.Fatal(err)
	}
	dclass.Policy = []Object{policy}
	signed := four.samples()["pathtear"]
	integrity := Integrity{Flags: HandshakeFlag, KeyID: 0x0a0b0c0d0e0f, Sequence: 4711, Digest: make([]byte, 32)}.Object()
	signed.Integrity = &integrity
	formats := formatSamples()
	for name, tc := range map[string]struct {
		msg  []byte
		want []string
	}{
		"DCLASS and POLICY_DATA": {encode(t, dclass), []string{"DCLASS: 46, 10"}},
		"INTEGRITY": {encode(t, signed), []string{
			".... ...1 = Handshake: Capable", "Key Identifier: 0a0b0c0d0e0f", "Sequence Number: 4711",
		}},
		"RFC 3175": {encode(t, formats["RFC 3175 RSVP-AGGREGATE-IP4 path"]), []string{
			"SESSION: IPv4-Aggregate, Destination 10.1.36.6, DSCP 46.",
			"SENDER TEMPLATE: IPv4-Aggregate, Aggregator 10.1.12.1.",
		}},
		"RFC 4860": {encode(t, formats["RFC 4860 GENERIC-AGGREGATE-IP4 path"]), []string{
			"SENDER TEMPLATE: IPv4-Aggregate, Aggregator 10.1.12.1.",
		}},
		"RFC 2207":  {encode(t, formats["RFC 2207 IPv4/GPI path"]), []string{"PATH Message.  (1)"}},
		"challenge": {sealed(t, handshakes()["challenge"]), []string{"(25)"}},
		"response":  {sealed(t, handshakes()["response"]), []string{"(26)", "Key Identifier: 0a0b0c0d0e0f"}},
		"DREQ":      {encodeDiag(t, four.diags()["full dreq"]), []string{"(8)", "Destination 10.1.36.6, Protocol 17, Port 5004"}},
		"DREP":      {encodeDiag(t, four.diags()["drep"]), []string{"(9)"}},
	} {
		text := tsharkReads(t, tc.msg)
		for _, want := range append(tc.want, "[correct]") {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in\n%s", name, want, text)
			}
		}
		if strings.Contains(text, "alformed") || strings.Contains(text, "ncorrect") {
			t.Errorf("%s: %s", name, text)
		}
	}
}
