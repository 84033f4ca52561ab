package admission

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/intserv"
)

func block(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }

func asker(src string, ids ...Identity) *Asker {
	return &Asker{Senders: []netip.Addr{netip.MustParseAddr(src)}, Dst: netip.MustParseAddr("10.2.0.2"), Protocol: 17, In: "lan0", Out: "wan0", Identities: ids}
}

func named(names ...string) Identity { return Identity{Names: names} }
func app(names ...string) Identity   { return Identity{App: true, Names: names} }

func campus() Policy {
	return Policy{
		Users: []User{
			{Name: "ann", Names: []string{"ann", "CN=Ann, O=Acme"}, From: block("10.1.0.5/32"), Rate: 4e5},
			{Name: "lab", From: block("10.1.0.0/24")},
		},
		Rules: []Rule{
			{Name: "no-games", Applications: []string{"doom"}, Refuse: true},
			{Name: "calls", From: block("10.1.0.0/16"), To: block("10.2.0.0/16"), Protocol: 17, In: []string{"lan0"}, Users: []string{"ann"}, Bounded: true, Priority: 5},
			{Name: "lab", From: block("10.1.0.0/16"), Users: []string{"lab"}, Services: []intserv.Service{intserv.ControlledLoad}, Rate: 1e5, Burst: 4000},
			{Name: "vic", From: block("10.3.0.0/16"), Applications: []string{"APP=vic, VER=2"}, Bounded: true},
		},
	}
}

// Who may ask for what: the user is identified and the policy that is for that
// user applies (RFC 5865 section 2.2), by name, owner, address, interface and
// application; what is refused has the code and value of RFC 2750 Appendix A.
func TestRules(t *testing.T) {
	large, bursty := cl(2e5), cl(1e4)
	bursty.TSpec.Bucket = 5000
	for name, tt := range map[string]struct {
		ask      *Asker
		flow     intserv.FlowSpec
		setup    uint16
		user     string
		priority uint16
		value    uint16 // 0: admitted
		denied   Denial
		text     string
	}{
		"named":                         {ask: asker("10.1.9.9", named("ann")), flow: large, setup: 5, user: "ann", priority: 5},
		"by locator":                    {ask: asker("10.1.9.9", named("cn=Ann,o=Acme", "x")), flow: large, user: "ann"},
		"by address":                    {ask: asker("10.1.0.5"), flow: large, setup: 1, user: "ann", priority: 1},
		"the smaller block":             {ask: asker("10.1.0.6"), flow: cl(1e5), user: "lab"},
		"the name before the address":   {ask: asker("10.1.0.6", named("ann")), flow: large, user: "ann"},
		"another name than ours":        {ask: asker("10.1.0.6", named("eve")), flow: cl(1e4), value: ValueRejected, denied: Unentitled, text: "no rule"},
		"nobody is named":               {ask: asker("10.1.9.9"), flow: cl(1e4), value: ValueMissing, denied: Unnamed, text: "rule calls is for those who say who they are"},
		"a name that cannot be read":    {ask: asker("10.1.9.9", Identity{}), flow: cl(1e4), value: ValueRejected, denied: Unproved, text: "cannot be read"},
		"from elsewhere":                {ask: asker("10.4.0.1"), flow: cl(1e4), value: ValueRejected, denied: Unentitled, text: "no rule"},
		"priority too high":             {ask: asker("10.1.0.5"), flow: large, setup: 6, value: ValueRejected, denied: Unentitled, text: "up to 5"},
		"any priority":                  {ask: asker("10.1.0.6"), flow: cl(1e4), setup: 9, user: "lab", priority: 9},
		"service":                       {ask: asker("10.1.0.6"), flow: gs(1e4, 1e4), value: ValueService, denied: Unentitled, text: "does not allow guaranteed"},
		"rate":                          {ask: asker("10.1.0.6"), flow: large, value: ValueFlowSpec, denied: Unentitled, text: "100000 bytes/s"},
		"burst":                         {ask: asker("10.1.0.6"), flow: bursty, value: ValueFlowSpec, denied: Unentitled, text: "4000 bytes"},
		"application of a locator":      {ask: asker("10.3.0.1", app("APP=vic,VER=2, SAPP=video", "vic.exe")), flow: large},
		"another version":               {ask: asker("10.3.0.1", app("APP=vic, VER=3")), flow: large, value: ValueRejected, denied: Unentitled},
		"an application that is barred": {ask: asker("10.1.0.5", app("GUID=http://x, APP=doom, VER=1")), flow: large, value: ValueRejected, denied: Unentitled, text: "refuses this"},
		"owner":                         {ask: &Asker{Owner: "ann", Senders: asker("10.1.9.9").Senders, Dst: asker("10.1.9.9").Dst, Protocol: 17, In: "lan0"}, flow: large, user: "ann"},
		"an owner who is no user":       {ask: &Asker{Owner: "eve", Senders: asker("10.1.0.5").Senders, Dst: asker("10.1.0.5").Dst, Protocol: 17, In: "lan0"}, flow: large, value: ValueRejected, denied: Unentitled, text: "owner eve"},
		"another interface":             {ask: func() *Asker { a := asker("10.1.0.5"); a.In = "lan1"; return a }(), flow: large, value: ValueRejected, denied: Unentitled},
		"one of two from elsewhere": {ask: func() *Asker {
			a := asker("10.1.0.5")
			a.Senders = append(a.Senders, netip.MustParseAddr("10.4.0.1"))
			return a
		}(), flow: large, value: ValueRejected, denied: Unentitled},
	} {
		c := New(NewMemory(), 100, wan())
		c.SetPolicy(campus())
		r := prior("1", tt.flow, tt.setup, tt.setup)
		r.Asker = tt.ask
		d := c.Admit(r)
		if tt.value != 0 {
			if d.Admitted || d.Code != CodePolicy || d.Value != tt.value || d.Denied != tt.denied || !strings.Contains(d.Reason, tt.text) {
				t.Errorf("%s: %+v", name, d)
			}
			continue
		}
		if !d.Admitted || d.User != tt.user || d.Priority.Setup != tt.priority {
			t.Errorf("%s: %+v", name, d)
		}
		if n, err := c.Sum(UserAccount(tt.user)); tt.user != "" && n != d.Bandwidth || err != nil {
			t.Errorf("%s: %d in the account, %v", name, n, err)
		}
	}
}

// Without rules everybody may ask for anything; a priority that nobody vouches
// for is none.
func TestNoRules(t *testing.T) {
	c := New(NewMemory(), 100, wan())
	r := prior("1", cl(1e5), 7, 8)
	r.Asker = asker("10.9.9.9")
	if d := c.Admit(r); !d.Admitted || d.Priority != (Priority{7, 8}) || d.User != "" {
		t.Errorf("%+v", d)
	}
	r.Asker.Untrusted = true
	if d := c.Admit(r); !d.Admitted || d.Priority != (Priority{}) {
		t.Errorf("%+v", d)
	}
	// A rule may vouch for it.
	c.SetPolicy(Policy{Rules: []Rule{{Name: "a", To: block("10.2.0.0/16"), Bounded: true, Priority: 8}, {Name: "b"}}})
	if d := c.Admit(r); !d.Admitted || d.Priority != (Priority{7, 8}) {
		t.Errorf("%+v", d)
	}
	r.Asker.Dst = netip.MustParseAddr("10.3.0.2")
	if d := c.Admit(r); !d.Admitted || d.Priority != (Priority{}) {
		t.Errorf("%+v", d)
	}
}

// With identities: signed a name counts only from where messages are signed.
func TestSignedIdentities(t *testing.T) {
	p := campus()
	p.Signed = true
	c := New(NewMemory(), 100, wan())
	c.SetPolicy(p)
	r := request("1", cl(1e4))
	r.Asker = asker("10.1.9.9", named("ann"))
	if d := c.Admit(r); d.Admitted || d.Value != ValueRejected || d.Denied != Unproved {
		t.Errorf("%+v", d)
	}
	r.Asker.Identities[0].Signed = true
	if d := c.Admit(r); !d.Admitted || d.User != "ann" {
		t.Errorf("%+v", d)
	}
}

// The sum of a user's reservations has a limit; what is in place may always
// become less, and rules that become stricter do not end it.
func TestUserLimit(t *testing.T) {
	c := New(NewMemory(), 100, wan())
	c.SetPolicy(campus())
	ask := func(id ID, rate float64, setup uint16) Decision {
		r := prior(id, cl(rate), setup, setup)
		r.Asker = asker("10.1.0.5")
		return c.Admit(r)
	}
	if d := ask("1", 3e5, 4); !d.Admitted {
		t.Fatalf("%+v", d)
	}
	if d := ask("2", 2e5, 0); d.Admitted || d.Code != CodePolicy || d.Value != ValueExceeded || d.Reason != "user ann has 100000 of 400000 bytes/s left, asked for are 200000" {
		t.Errorf("%+v", d)
	}
	if d := ask("2", 1e5, 0); !d.Admitted {
		t.Errorf("%+v", d)
	}
	if d := ask("1", 4e5, 4); d.Admitted || !d.InPlace {
		t.Errorf("%+v", d)
	}
	stricter := campus()
	stricter.Users[0].Rate, stricter.Rules[1].Priority = 1e5, 1
	c.SetPolicy(stricter)
	for _, rate := range []float64{3e5, 2e5} {
		if d := ask("1", rate, 4); !d.Admitted || d.User != "ann" || d.Priority.Setup != 4 {
			t.Errorf("%+v", d)
		}
	}
	if d := ask("1", 2e5, 5); d.Admitted || !d.InPlace || d.Value != ValueRejected {
		t.Errorf("a higher priority: %+v", d)
	}
	if n, err := c.Sum(UserAccount("ann")); n != 3e5 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// RFC 5865 section 2.3: thresholds keep a part of the link for precedence calls.
func TestThresholdsRFC5865Section2_3(t *testing.T) {
	c := New(NewMemory(), 100, wan()) // 8e5
	c.SetPolicy(Policy{Thresholds: []Threshold{{Below: 1, Share: 0.5}, {Below: 5, Share: 0.75}}})
	for _, tt := range []struct {
		id    ID
		rate  float64
		setup uint16
		ok    bool
	}{
		{"1", 4e5, 0, true}, {"2", 1e4, 0, false}, {"2", 2e5, 4, true}, {"3", 1e4, 4, false}, {"3", 2e5, 5, true}, {"4", 1e4, 5, false},
	} {
		if d := c.Admit(prior(tt.id, cl(tt.rate), tt.setup, tt.setup)); d.Admitted != tt.ok || !tt.ok && (d.Code != CodeAdmission || d.Value != ValueBandwidth) {
			t.Errorf("%+v: %+v", tt, d)
		}
	}
	if _, err := c.Release("3"); err != nil {
		t.Fatal(err)
	}
	d := c.Admit(prior("5", cl(1e4), 0, 0))
	if want := "for a setup priority of 0, wan0 has 0 of 400000 bytes/s left, asked for are 10000"; d.Admitted || d.Reason != want {
		t.Errorf("%+v, want %s", d, want)
	}
	// Who is above the others may take their place, up to its own threshold.
	d = c.AdmitOver(prior("5", cl(3e5), 3, 3), anyone)
	if !d.Admitted || len(d.Preempted) != 1 || d.Preempted[0].ID != "1" {
		t.Errorf("%+v", d)
	}
	if d = c.AdmitOver(prior("6", cl(7e5), 4, 4), anyone); d.Admitted {
		t.Errorf("%+v", d)
	}
}

// RFC 1779: quoted and escaped commas are part of a value.
func TestNames(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"ann", "ann", true},
		{"ann", "Ann", false},
		{"CN=Ann,O=Acme", "cn = Ann; o=Acme", true},
		{"CN=Ann,O=Acme", "O=Acme,CN=Ann", false},
		{`CN=Ann,O="Acme, Inc"`, `CN=Ann, O=Acme\, Inc`, true},
		{"CN=Ann", "Ann", false},
		{"a=b,c", "a=b,c", true},
		{"=x", "=x", true},
		{"=x", "=y", false},
	} {
		if sameName(tt.a, tt.b) != tt.same || sameName(tt.b, tt.a) != tt.same {
			t.Errorf("%s and %s: want %v", tt.a, tt.b, tt.same)
		}
	}
	for _, tt := range []struct {
		want, name string
		is         bool
	}{
		{"SAP", "APP=SAP, VER=1.1, SAPP=Print", true},
		{"SAP.EXE", "SAP.EXE", true},
		{"SAP", "GUID=SAP, APP=x", false},
		{"APP=SAP, SAPP=Print", "APP=SAP, VER=1.1, SAPP=Print", true},
		{"APP=SAP, VER=2", "APP=SAP, VER=1.1", false},
		{"APP=SAP", "SAP", false},
	} {
		if isApplication(tt.want, tt.name) != tt.is {
			t.Errorf("%s for %s: want %v", tt.want, tt.name, tt.is)
		}
	}
}

// FuzzName: whatever is said for a name is compared without harm, and is the
// same as itself.
func FuzzName(f *testing.F) {
	for _, s := range []string{"ann", "CN=Ann,O=Acme", `CN="a,b",O=c\,d`, "=", "\\", `a="`, ";;="} {
		f.Add(s, "APP=x")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if !sameName(a, a) || sameName(a, b) != sameName(b, a) {
			t.Fatalf("%q %q", a, b)
		}
		if !isApplication(a, a) {
			t.Fatalf("%q", a)
		}
		isApplication(a, b)
	})
}
