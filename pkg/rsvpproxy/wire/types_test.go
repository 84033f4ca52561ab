package wire

import "testing"

// TestNeedsRouterAlertRFC2205Section3_3: only what is addressed past the next hop.
func TestNeedsRouterAlertRFC2205Section3_3(t *testing.T) {
	for typ, want := range map[MsgType]bool{
		Path: true, PathTear: true, ResvConf: true,
		Resv: false, ResvTear: false, PathErr: false, ResvErr: false,
	} {
		if typ.NeedsRouterAlert() != want {
			t.Errorf("%v: %v", typ, !want)
		}
	}
}

func TestFilterString(t *testing.T) {
	if got := (Filter{Src: ip("10.0.0.1"), SrcPort: 80}).String(); got != "10.0.0.1:80" {
		t.Error(got)
	}
}
