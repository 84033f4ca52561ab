package softstate

import (
	"testing"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// RFC 2205 Appendix A.9: senders of an IPv6 session that their flow labels name are
// senders like others, beside those that ports name.
func TestFlowLabelSendersRFC2205AppendixA9(t *testing.T) {
	r := rig6(t)
	for _, f := range []wire.Filter{
		{Src: src6, SrcPort: 4000},
		{Src: src6, Format: wire.FormatFlowLabel, Label: 0x12345},
		{Src: src6, Format: wire.FormatFlowLabel, Label: 0x54321},
	} {
		path, resv := path6(), resv6()
		path.SenderTemplate = &f
		resv.Flows = []wire.FlowDescriptor{{FlowSpec: resv.Flows[0].FlowSpec, Filters: []wire.Filter{f}}}
		if s := onlySend(t, r.in(left, src6, dst6, path), wire.Path); *s.Msg.SenderTemplate != f {
			t.Errorf("%v became %v", f, s.Msg.SenderTemplate)
		}
		es := r.in(right, next6, r.env.addrs6[right], resv)
		if e := only[Reserve](t, es); len(e.Filters) != 1 || e.Filters[0] != f {
			t.Errorf("%v: %+v", f, e)
		}
		r.grant(es)
	}
	if c := r.n.Counters(); c.Senders != 3 || c.Reservations != 3 || c.Sessions != 1 {
		t.Errorf("%+v", c)
	}
	// A label that no sender has is an error like a port that none has (Appendix B, code 4).
	resv := resv6()
	resv.Flows = []wire.FlowDescriptor{{FlowSpec: resv.Flows[0].FlowSpec, Filters: []wire.Filter{{Src: src6, Format: wire.FormatFlowLabel, Label: 1}}}}
	if s := onlySend(t, r.in(right, next6, r.env.addrs6[right], resv), wire.ResvErr); s.Msg.ErrorSpec.Code != wire.ErrNoSender {
		t.Errorf("%+v", s.Msg.ErrorSpec)
	}
	// By the API: none without a label, and none for IPv4.
	for _, s := range []Sender{
		{Session: path6().Session, Filter: wire.Filter{Src: src6, Format: wire.FormatFlowLabel}, TSpec: tspec, In: left},
		{Session: sess, Filter: wire.Filter{Src: srcHost, Format: wire.FormatFlowLabel, Label: 1}, TSpec: tspec, In: left},
	} {
		if _, err := r.n.AddSender(r.now, s); err == nil {
			t.Errorf("%v was taken", s.Filter)
		}
	}
}
