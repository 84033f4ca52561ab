package wire

import (
	"encoding/json"
	"fmt"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/roottest/dissect"
)

// specimen is a message as it is on the wire.
type specimen struct {
	f     family
	bytes []byte
}

// specimens are messages of every type, in which together there is every object
// that the codec writes, by class and C-Type.
func specimens(t testing.TB) map[string]specimen {
	t.Helper()
	all := map[string]specimen{}
	add := func(name string, m *Message) {
		f := four
		if m.Session.Dst.Is6() {
			f = six
		}
		for _, m := range append([]*Message{m}, m.Bundle...) {
			if m.AdSpec != nil {
				ad := *m.AdSpec // tshark remarks on services that are unknown to it
				ad.Unknown = nil
				m.AdSpec = &ad
			}
		}
		all[name] = specimen{f, encode(t, m)}
	}
	for _, set := range []map[string]*Message{samples(), reduced(), nullSamples()} {
		for name, m := range set {
			if m.Type == Srefresh && strings.HasSuffix(name, "6") {
				all[name] = specimen{six, encode(t, m)}
				continue
			}
			add(name, m)
		}
	}
	add("bundle", bundle())
	for name, f := range map[string]family{"ipv4": four, "ipv6": six} {
		for kind, d := range f.diags() {
			all[name+" "+kind] = specimen{f, encodeDiag(t, d)}
		}
		for kind, h := range handshakes() {
			all[name+" "+kind] = specimen{f, sealed(t, h)}
		}
		m := f.samples()["path"]
		m.Unknown = []Object{f.assoc().Object(), NotifyRequest(f.hop)}
		add(name+" SESSION_ASSOC, NOTIFY_REQUEST", m)
		m = f.samples()["path"]
		p, _ := policySample(f)
		p.Elements = append(p.Elements, ProxyNotNeeded.Element())
		policy, err := p.Object()
		if err != nil {
			t.Fatal(err)
		}
		m.Policy = []Object{policy}
		add(name+" POLICY_DATA", m)
		m = f.samples()["resv-se"]
		m.TunnelEnd, m.Flows[0].Unknown = true, []Object{DClass(46, 10)}
		add(name+" NODE_CHAR, DCLASS", m)
		m = f.samples()["pathtear"]
		integrity := Integrity{Flags: HandshakeFlag, KeyID: 0x0a0b0c0d0e0f, Sequence: 4711, Digest: make([]byte, 32)}.Object()
		m.Integrity = &integrity
		add(name+" INTEGRITY", m)
	}
	labelled := append(slices.Clip(sessionFormats), struct {
		name              string
		accept            Formats
		s                 Session
		f                 Filter
		session, template string
	}{
		name: "RFC 2205 flow label", s: Session{Dst: six.dst, Protocol: 17, DstPort: 5004},
		f: Filter{Src: six.src, Format: FormatFlowLabel, Label: 0xabcde},
	})
	for _, tc := range labelled {
		f := four
		if tc.s.Dst.Is6() {
			f = six
		}
		for kind, m := range f.samples() {
			m.Session = tc.s
			if m.SenderTemplate != nil {
				m.SenderTemplate = &tc.f
			}
			for i := range m.Flows {
				if len(m.Flows[i].Filters) > 0 {
					m.Flows[i].Filters = []Filter{tc.f}
				}
			}
			add(tc.name+" "+kind, m)
		}
		if tc.s.Format == FormatGenericAggregate {
			m := f.samples()["resv-ff"]
			m.SOI = []Session{tc.s}
			add(tc.name+" SOI", m)
		}
	}
	return all
}

// kind is an object's class and C-Type.
type kind struct {
	Class
	ctype uint8
}

func (k kind) String() string { return fmt.Sprintf("%v C-Type %d", k.Class, k.ctype) }

// sized is an object with the length that its header tells.
type sized struct {
	kind
	length int
}

// kindsOf lists the objects of a message, and of those in a Bundle.
func kindsOf(t testing.TB, b []byte) (list []sized) {
	t.Helper()
	if MsgType(b[1]) == Bundle {
		_, subs, err := SplitBundle(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, sub := range subs {
			list = append(list, kindsOf(t, sub)...)
		}
		return list
	}
	if err := walk(b[commonHeader:], func(c Class, ctype uint8, body []byte) error {
		list = append(list, sized{kind{c, ctype}, objectHeader + len(body)})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return list
}

// The C-Types that are written of each class. SESSION and the filters have those
// of their formats.
var written = map[Class][]uint8{
	ClassSession: ctypesOf(sessionCTypes[:]), ClassFilterSpec: ctypesOf(filterCTypes[:]), ClassSenderTemplate: ctypesOf(filterCTypes[:]),
	ClassHop: {1, 2}, ClassIntegrity: {1}, ClassTimeValues: {1}, ClassErrorSpec: {1, 2}, ClassScope: {1, 2}, ClassStyle: {1}, ClassFlowSpec: {2},
	ClassSenderTSpec: {2}, ClassAdSpec: {2}, ClassPolicyData: {1}, ClassResvConfirm: {1, 2},
	ClassMessageID: {1}, ClassMessageIDAck: {1, 2}, ClassMessageIDList: {1, 2, 3, 4, 5},
	ClassDiagnostic: {1, 2}, ClassRoute: {1, 2}, ClassDiagResponse: {1, 2}, ClassDiagSelect: {1}, ClassChallenge: {1},
	ClassNodeChar: {0}, ClassSOI: {1, 2}, ClassSessionAssoc: {0}, ClassNotify: {1, 2}, ClassDClass: {1},
}

// ctypesOf are the C-Types of formats, for IPv4 and IPv6.
func ctypesOf(formats []uint8) (out []uint8) {
	for f, c := range formats {
		switch {
		case c == 0: // a session's, of which filters have none
		case Format(f) == FormatFlowLabel: // of IPv6 alone
			out = append(out, c+1)
		default:
			out = append(out, c, c+1)
		}
	}
	return out
}

// TestSpecimensAreComplete reads the codec's own source: a type of message, a
// class, a C-Type, a format or a type of object that is added to it needs a
// specimen, so that tshark sees it, or to be named here.
func TestSpecimensAreComplete(t *testing.T) {
	seenKinds, seenTypes := map[kind]bool{}, map[MsgType]bool{}
	for _, s := range specimens(t) {
		seenTypes[MsgType(s.bytes[1])] = true
		for _, k := range kindsOf(t, s.bytes) {
			seenKinds[k.kind] = true
		}
	}
	for class, ctypes := range written {
		for _, c := range ctypes {
			if !seenKinds[kind{class, c}] {
				t.Errorf("no specimen has %v", kind{class, c})
			}
		}
	}
	src := sourceOf(t, false)
	for name, value := range src.consts["MsgType"] {
		if !seenTypes[MsgType(value)] {
			t.Errorf("no specimen of the message %s", name)
		}
	}
	for name, value := range src.consts["Class"] {
		if _, ok := written[Class(value)]; !ok && Class(value) != ClassNull {
			t.Errorf("%s is not in the table of what is written", name)
		}
	}
	for what, known := range map[string][]string{
		"ctype":  {"ctypeAck", "ctypeIDList", "ctypeIPv4", "ctypeIPv6", "ctypeIntServ", "ctypeMcstList4", "ctypeMcstList6", "ctypeNack", "ctypeOnly", "ctypeSrcList4", "ctypeSrcList6"},
		"Format": {"FormatAggregate", "FormatFlowLabel", "FormatGPI", "FormatGenericAggregate", "FormatPorts"},
		"object": {
			"Challenge", "DiagResponse", "Diagnostic", "ErrorSpec", "Hop", "MessageID", "MessageIDAck", "MessageIDList", "Object", "Route", "Session", "Style",
			"TimeValues", "adSpec", "diagSelect", "filterSpec", "flowSpec", "nodeChar", "resvConfirm", "scope", "senderTSpec", "senderTemplate", "soi",
		},
		// Functions that make an Object of what is no type of object.
		"maker":      {"DClass", "Integrity.Object", "NotifyRequest", "PolicyData.Object", "SessionAssoc.Object", "clone"},
		"PolicyType": {"AuthApp", "AuthUser", "PreemptionPriority", "ProxyControlType"},
	} {
		if got := slices.Sorted(maps.Keys(src.names[what])); !slices.Equal(got, known) {
			t.Errorf("%s: the codec has %v, and there are specimens of %v", what, got, known)
		}
	}
}

// source is what TestSpecimensAreComplete wants to know of the package.
type source struct {
	names  map[string]map[string]bool
	consts map[string]map[string]int // by type, of those with a literal value
}

func sourceOf(t *testing.T, tests bool) source {
	t.Helper()
	s := source{names: map[string]map[string]bool{}, consts: map[string]map[string]int{"MsgType": {}, "Class": {}}}
	name := func(kind, what string) {
		if s.names[kind] == nil {
			s.names[kind] = map[string]bool{}
		}
		s.names[kind][what] = true
	}
	pkgs, err := goparser.ParseDir(token.NewFileSet(), ".", func(f fs.FileInfo) bool { return strings.HasSuffix(f.Name(), "_test.go") == tests }, 0) //nolint:staticcheck // of one package, without its dependencies
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range pkgs["wire"].Files {
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				recv := ""
				if d.Recv != nil {
					recv = typeName(d.Recv.List[0].Type)
				}
				switch {
				case tests:
					name("test", d.Name.Name)
				case recv != "" && d.Name.Name == "header":
					name("object", recv)
				case d.Type.Results != nil && typeName(d.Type.Results.List[0].Type) == "Object" && recv != "":
					name("maker", recv+"."+d.Name.Name)
				case d.Type.Results != nil && typeName(d.Type.Results.List[0].Type) == "Object":
					name("maker", d.Name.Name)
				}
			case *ast.GenDecl:
				if d.Tok != token.CONST {
					continue
				}
				typ := ""
				for _, spec := range d.Specs {
					v := spec.(*ast.ValueSpec) //nolint:forcetypeassert // of a const declaration
					if v.Type != nil || len(v.Values) > 0 {
						typ = typeName(v.Type)
					}
					for i, n := range v.Names {
						if strings.HasPrefix(n.Name, "ctype") {
							name("ctype", n.Name)
						}
						if typ == "Format" || typ == "PolicyType" {
							name(typ, n.Name)
						}
						if s.consts[typ] == nil || i >= len(v.Values) {
							continue
						}
						lit, ok := v.Values[i].(*ast.BasicLit)
						value := 0
						if ok {
							_, err = fmt.Sscan(lit.Value, &value)
						}
						if !ok || err != nil {
							t.Errorf("the value of %s is no plain number: write one", n.Name)
						}
						s.consts[typ][n.Name] = value
					}
				}
			}
		}
	}
	return s
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.Ident:
		return e.Name
	default:
		return ""
	}
}

// undissected are the objects that tshark 4.0 walks over and does not take apart,
// with the test that holds what is in them to the RFC's figure. Of these tshark is
// asked for what it does tell: class, C-Type, length, and that what stands around
// them is right.
var undissected = map[kind]string{
	{ClassSession, 3}: "TestFormatsGolden", {ClassSession, 4}: "TestFormatsGolden", // RFC 2207
	{ClassSession, 10}: "TestFormatsGolden",                                          // RFC 3175, IPv6
	{ClassSession, 17}: "TestFormatsGolden", {ClassSession, 18}: "TestFormatsGolden", // RFC 4860
	{ClassFilterSpec, 4}: "TestFormatsGolden", {ClassFilterSpec, 5}: "TestFormatsGolden", {ClassFilterSpec, 10}: "TestFormatsGolden",
	{ClassSenderTemplate, 4}: "TestFormatsGolden", {ClassSenderTemplate, 5}: "TestFormatsGolden", {ClassSenderTemplate, 10}: "TestFormatsGolden",
	{ClassFilterSpec, 3}: "TestFlowLabelRFC2205AppendixA9", {ClassSenderTemplate, 3}: "TestFlowLabelRFC2205AppendixA9",
	{ClassMessageIDList, 2}: "TestReductionObjectsRFC2961", {ClassMessageIDList, 3}: "TestReductionObjectsRFC2961",
	{ClassMessageIDList, 4}: "TestReductionObjectsRFC2961", {ClassMessageIDList, 5}: "TestReductionObjectsRFC2961",
	{ClassDiagnostic, 1}: "TestDiagObjectsRFC2745Section3", {ClassDiagnostic, 2}: "TestDiagObjectsRFC2745Section3",
	{ClassRoute, 1}: "TestDiagObjectsRFC2745Section3", {ClassRoute, 2}: "TestDiagObjectsRFC2745Section3",
	{ClassDiagResponse, 1}: "TestDiagObjectsRFC2745Section3", {ClassDiagResponse, 2}: "TestDiagObjectsRFC2745Section3",
	{ClassDiagSelect, 1}: "TestDiagObjectsRFC2745Section3",
	{ClassChallenge, 1}:  "TestChallengeRFC2747Section4_3",
	{ClassNodeChar, 0}:   "TestNodeCharRFC2746Section2_3_2",
	{ClassSOI, 1}:        "TestSOIRFC4860Section2_2", {ClassSOI, 2}: "TestSOIRFC4860Section2_2",
	{ClassSessionAssoc, 0}: "TestSessionAssocRFC2746Section2_3_1",
	{ClassPolicyData, 1}:   "TestPolicyRFC2750Section3_1",
	{193, 7}:               "TestUnknownObjectsAreForwarded", // a class of the future: the sample's
}

// told is what tshark prints of an object.
type told struct {
	kind
	length int
	text   string
}

var (
	objectLines = regexp.MustCompile(`(?m)^ +Length: (\d+)\n +Object class: .*\((\d+)\)\n +C-[Tt]ype: (?:.*\()?(\d+)\)?$`)
	notTaken    = regexp.MustCompile(`(?m)Object class: Unknown|Unknown object|^ +Data: |^ +Data \(`)
)

func objectsTold(t *testing.T, text string) (out []told) {
	t.Helper()
	found := objectLines.FindAllStringSubmatchIndex(text, -1)
	for i, at := range found {
		n := [3]int{}
		for j := range n {
			if _, err := fmt.Sscan(text[at[2+2*j]:at[3+2*j]], &n[j]); err != nil {
				t.Fatal(err)
			}
		}
		end := len(text)
		if i+1 < len(found) {
			end = strings.LastIndexByte(text[:found[i+1][0]-1], '\n') // in front of its title
		}
		out = append(out, told{kind{Class(n[1]), uint8(n[2])}, n[0], text[at[0]:end]})
	}
	return out
}

// TestTsharkReadsEverything: RFC 2205 section 3.1: whatever the codec can write is
// read by an implementation that is not ours, in one run, object by object, without
// a remark and with a right checksum.
func TestTsharkReadsEverything(t *testing.T) {
	all := specimens(t)
	names := slices.Sorted(maps.Keys(all))
	packets := make([][]byte, 0, len(names))
	for _, name := range names {
		s := all[name]
		packets = append(packets, dissect.Packet(t, s.f.src, s.f.dst, s.bytes[4], s.bytes))
	}
	file := dissect.File(t, packets)
	var read []struct {
		Source struct {
			Layers map[string][]string `json:"layers"`
		} `json:"_source"`
	}
	out := dissect.Tshark(t, file, "-T", "json", "-e", "_ws.malformed", "-e", "_ws.expert.message", "-e", "rsvp.msg")
	if err := json.Unmarshal([]byte(out), &read); err != nil {
		t.Fatalf("tshark's output: %v", err)
	}
	texts := regexp.MustCompile(`(?m)^Frame \d+: `).Split(dissect.Tshark(t, file, "-V"), -1)[1:]
	if len(read) != len(names) || len(texts) != len(names) {
		t.Fatalf("tshark reads %d packets and prints %d of %d", len(read), len(texts), len(names))
	}
	for i, name := range names {
		b, text, l := all[name].bytes, texts[i], read[i].Source.Layers
		objects := kindsOf(t, b)
		// Of a session that is not there, or that it does not know, it says so.
		foreign := !slices.ContainsFunc(objects, func(o sized) bool { return o.Class == ClassSession && undissected[o.kind] == "" })
		remarks := slices.DeleteFunc(l["_ws.expert.message"], func(s string) bool { return foreign && s == "Unknown session type" })
		if len(l["_ws.malformed"]) > 0 || len(remarks) > 0 || strings.Contains(text, "alformed") {
			t.Errorf("%s: %v\n%s", name, l, text)
		}
		want, sums := []string{fmt.Sprint(b[1])}, 1
		if MsgType(b[1]) == Bundle { // tshark verifies the messages in it
			_, subs, err := SplitBundle(b)
			if err != nil {
				t.Fatal(err)
			}
			sums = len(subs)
			for _, sub := range subs {
				want = append(want, fmt.Sprint(sub[1]))
			}
		}
		if !slices.Equal(l["rsvp.msg"], want) {
			t.Errorf("%s: message type %v, want %v", name, l["rsvp.msg"], want)
		}
		if n := strings.Count(text, "[correct]"); n != sums || strings.Contains(text, "ncorrect") || !verify(b) {
			t.Errorf("%s: %d of %d checksums are right:\n%s", name, n, sums, text)
		}
		seen := objectsTold(t, text)
		if !slices.EqualFunc(seen, objects, func(a told, b sized) bool { return a.kind == b.kind && a.length == b.length }) {
			t.Errorf("%s: tshark sees %v, sent %v\n%s", name, seen, objects, text)
			continue
		}
		for _, o := range seen {
			if _, ok := undissected[o.kind]; !ok && notTaken.MatchString(o.text) {
				t.Errorf("%s: tshark does not read %v:\n%s", name, o.kind, o.text)
			}
		}
	}
}

// What tshark does not take apart, a test that there is does.
func TestUndissectedAreTested(t *testing.T) {
	src := sourceOf(t, true)
	for k, name := range undissected {
		if !src.names["test"][name] {
			t.Errorf("%v: there is no %s", k, name)
		}
	}
}
