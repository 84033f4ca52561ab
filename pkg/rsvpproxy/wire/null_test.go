package wire

import (
	"testing"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// nullSamples are messages of the null service: offered alone, beside a token
// bucket, and asked for.
func nullSamples() map[string]*Message {
	path, both, resv := four.samples()["path"], four.samples()["path"], four.samples()["resv-se"]
	path.Integrity, both.Integrity = nil, nil
	path.AdSpec.Guaranteed, path.AdSpec.ControlledLoad = nil, nil
	path.AdSpec.Unknown = []intserv.UnknownAd{{Service: intserv.Null}}
	both.AdSpec.Unknown = path.AdSpec.Unknown
	path.SenderTSpec = &intserv.TSpec{MaxPacket: 1400}
	both.RawTSpec = &Object{Class: ClassSenderTSpec, CType: 2, Body: unhex("0000000a 01000006" + tspecHex + "06000002 80000001 000005dc")}
	resv.Flows[0].FlowSpec = &intserv.FlowSpec{Service: intserv.Null, TSpec: intserv.TSpec{MaxPacket: 1400}}
	return map[string]*Message{"path": path, "both": both, "resv": resv}
}

// RFC 2997 section 4: the layouts.
func TestNullServiceRFC2997Section4(t *testing.T) {
	all := nullSamples()
	golden(t, senderTSpec{all["path"].SenderTSpec}, "0014 0c02 00000003 06000002 80000001 00000578")
	golden(t, flowSpec{all["resv"].Flows[0].FlowSpec}, "0014 0902 00000003 06000002 80000001 00000578")
	for name, m := range all {
		got, err := Parse(encode(t, m))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if m.SenderTSpec != nil && *got.SenderTSpec != *m.SenderTSpec {
			t.Errorf("%s: TSpec %v, want %v", name, got.SenderTSpec, m.SenderTSpec)
		}
		if m.RawTSpec != nil && (got.RawTSpec == nil || string(got.RawTSpec.Body) != string(m.RawTSpec.Body)) {
			t.Errorf("%s: raw TSpec %v", name, got.RawTSpec)
		}
		if len(m.Flows) > 0 && (len(got.Flows) != 1 || *got.Flows[0].FlowSpec != *m.Flows[0].FlowSpec) {
			t.Errorf("%s: flows %+v", name, got.Flows)
		}
	}
}

// An implementation that is not ours knows the FLOWSPEC of the null service.
func TestNullServiceTshark(t *testing.T) {
	all := nullSamples()
	checkTshark(t, []string{"resv", "path", "both"}, all)
}
