package integration

import (
	"strings"
	"testing"

	"github.com/qosproxy/qosproxy/integration/rig/wire"
)

// String names the form.
func (f form) String() string { return [...]string{"routed", "bridged", "adopted"}[f] }

// row names the forms of a lab's boxes.
func row(forms []form) string {
	names := make([]string, len(forms))
	for i, f := range forms {
		names[i] = f.String()
	}
	return strings.Join(names, "-")
}

// What no policy concerns passes boxes of all forms, in any order, by cable and over an
// emulated link.
func TestForms(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		forms []form
		wan   *wire.Config
	}{
		{forms: []form{bridged}},
		{forms: []form{bridged, bridged}},
		{forms: []form{adopted, bridged}},
		{forms: []form{bridged, routed}},
		{forms: []form{routed, bridged}},
		{forms: []form{bridged, routed, bridged, routed}},
		{forms: []form{bridged, bridged}, wan: badWAN(7)},
		{forms: []form{bridged, routed}, wan: badWAN(8)},
	} {
		name := row(tt.forms)
		if tt.wan != nil {
			name += " over a WAN"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newMixedLab(t, tt.forms, tt.wan)
			configs := make([]string, len(tt.forms))
			for i := range tt.forms {
				c := l.edge(min(i, 1), usualPolicies, "")
				if i > 0 && i < len(tt.forms)-1 {
					c.hosts, c.network = nil, []string{leftWAN, rightWAN}
				}
				c.bridge = tt.forms[i] != routed
				configs[i] = c.String()
			}
			l.startAll(t, configs...)
			for _, f := range []family{ipv4, ipv6} {
				if tt.wan == nil { // which loses some
					ping(t, l.a, f.dst)
					ping(t, l.b, f.src)
					exchange(t, l.a, l.b, f.dst, 1000)
				}
				source, sink := connect(t, l.a, l.b, at(f.dst, portOther))
				send(source, sink, random(1, 500_000)).wait(t)
			}
		})
	}
}
