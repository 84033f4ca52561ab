package softstate

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// lab is the router of RFC 2205's figures 4 to 12: interfaces a and b lead to
// the senders, c and d to the receivers. It takes orders and tells what comes
// out in the figures' notation:
//
//	path S1{5}              PATH of S1, with a TSpec of 5 B
//	pathtear S1
//	resv c R1 FF S1{4},S2{3}
//	resv d R2 SE S1,S2{3}   WF *{3} [S1,S2]   the list is SCOPE
//	resvtear c R1 FF S1
//	resverr P1 WF *{4} 1    code 1; "1i": with InPlace; "2r": a reduction in place
//	reduce 2                leaves 2 B of the first reservation
//	patherr c S1 2
//	resvconf FF S1{3}       towards R1
//	members c d             where the group has listeners
//	home S2 c R1            where a sender's packets come from
//	unaware                 nobody behind c and d speaks RSVP
//	discover                nobody is known to, as on a box's links to hosts
//	limit 4                 admission control refuses more than 4 B; 0: nothing
//	wait 3m
type lab struct {
	*rig
	v6      bool
	format  wire.Format // of sessions, ports unless said otherwise
	group   wire.Session
	homes   map[string]home
	members []IfIndex
	limit   float64
}

type home struct {
	in  IfIndex
	hop string
}

const unit = 1000 // B of the figures, bytes/s

func newLab(t *testing.T, v6 bool) *lab {
	l := &lab{v6: v6, homes: map[string]home{"S1": {1, "P1"}, "S2": {2, "P2"}, "S3": {2, "P2"}, "S4": {2, "P3"}}, members: []IfIndex{3, 4}}
	env := &testEnv{addrs: map[IfIndex]netip.Addr{}, addrs6: map[IfIndex]netip.Addr{}, routes: map[netip.Addr]IfIndex{}, unaware: map[netip.Addr]bool{}, mtu: 1500}
	for i := range IfIndex(4) {
		env.addrs[i+1] = netip.AddrFrom4([4]byte{10, 0, byte(i + 1), 254})
		env.addrs6[i+1] = addr(fmt.Sprintf("2001:db8:%d::fe", i+1))
	}
	l.group = wire.Session{Dst: addr("239.1.1.1"), Protocol: 17, DstPort: 5004}
	if v6 {
		l.group.Dst = addr("ff3e::101")
		env.addrs = nil // not even needed
	}
	env.def = 3
	env.groups = func(_, src netip.Addr, in IfIndex) []IfIndex {
		for name, h := range l.homes {
			if l.addr(name) == src && h.in != in && in != 0 {
				return nil
			}
		}
		return slices.DeleteFunc(slices.Clone(l.members), func(i IfIndex) bool { return i == in })
	}
	l.rig = &rig{t: t, env: env, now: epoch}
	l.n = New(Config{Quick: -1, IPv6: true}, env, rand.New(rand.NewPCG(1, 2)))
	return l
}

// addr of S1..., and of the neighbours P1 and P4 on a, P2, P3 on b, R1, R4 on c, R2, R3 on d.
func (l *lab) addr(name string) netip.Addr {
	net, host := map[string]int{"P1": 1, "P4": 1, "P2": 2, "P3": 2, "R1": 3, "R4": 3, "R2": 4, "R3": 4}[name], int(name[1]-'0')
	if net == 0 {
		net = 90
	}
	if l.v6 {
		return addr(fmt.Sprintf("2001:db8:%d::%d", net, host))
	}
	return netip.AddrFrom4([4]byte{10, 0, byte(net), byte(host)})
}

func (l *lab) name(a netip.Addr) string {
	for _, n := range []string{"P1", "P2", "P3", "P4", "R1", "R2", "R3", "R4", "S1", "S2", "S3", "S4"} {
		if l.addr(n) == a {
			return n
		}
	}
	return a.String()
}

func (l *lab) filter(name string) wire.Filter {
	switch f := (wire.Filter{Src: l.addr(name), Format: l.format.Filters()}); l.format {
	case wire.FormatPorts:
		f.SrcPort = 4000
		return f
	case wire.FormatGPI:
		f.SPI = 0xc0ffee
		return f
	default:
		return f
	}
}

// use makes the lab's session one of another format.
func (l *lab) use(f wire.Format) {
	l.format, l.group.Format = f, f
	switch f {
	case wire.FormatGPI:
		l.group.Protocol, l.group.DstPort = wire.ProtoESP, 8192
	case wire.FormatAggregate:
		l.group.Protocol, l.group.DstPort, l.group.DSCP = 0, 0, 46
	case wire.FormatGenericAggregate:
		l.group.Protocol, l.group.PHB, l.group.Extended = 0, 0xb800, [16]byte{10, 1, 2, 3}
	default:
	}
}

func iface(s string) IfIndex { return IfIndex(s[0]-'a') + 1 }

func ifname(i IfIndex) string { return string(rune('a' + i - 1)) }

func units(s string) (name string, t intserv.TSpec) {
	name, q, ok := strings.Cut(strings.TrimSuffix(s, "}"), "{")
	v := 10.0
	if ok {
		v, _ = strconv.ParseFloat(q, 64)
	}
	return name, intserv.TSpec{Rate: v * unit, Bucket: v * unit, Peak: v * unit, MinUnit: 64, MaxPacket: 1000}
}

// flows reads "S1{4},S2{3}", "S1,S2{3}" or "*{3}".
func (l *lab) flows(style wire.Style, s string) (out []wire.FlowDescriptor) {
	var d wire.FlowDescriptor
	for part := range strings.SplitSeq(s, ",") {
		name, t := units(part)
		if name != "*" {
			d.Filters = append(d.Filters, l.filter(name))
		}
		if strings.Contains(part, "{") {
			d.FlowSpec = &intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: t}
		}
		if style == wire.FF {
			out = append(out, d)
			d = wire.FlowDescriptor{}
		}
	}
	if style != wire.FF {
		out = append(out, d)
	}
	return out
}

var styles = map[string]wire.Style{"FF": wire.FF, "SE": wire.SE, "WF": wire.WF}

func (l *lab) scope(fields []string) (out []netip.Addr) {
	for _, f := range fields {
		if strings.HasPrefix(f, "[") {
			for n := range strings.SplitSeq(strings.Trim(f, "[]"), ",") {
				out = append(out, l.addr(n))
			}
		}
	}
	return out
}

func (l *lab) our(i IfIndex) netip.Addr { return l.n.addr(i, l.group.Dst) }

// do carries out one order.
func (l *lab) do(order string) []Effect {
	l.t.Helper()
	f := strings.Fields(order)
	refresh := &wire.TimeValues{Refresh: 30000}
	m := &wire.Message{Session: l.group}
	switch f[0] {
	case "path":
		name, t := units(f[1])
		h, flt := l.homes[name], l.filter(name)
		m.Type, m.Hop, m.TimeValues, m.SenderTemplate, m.SenderTSpec = wire.Path, &wire.Hop{Addr: l.addr(h.hop), LIH: 9}, refresh, &flt, &t
		if slices.Contains(f, "police") {
			m.Session.Flags = wire.SessionEPolice
		}
		in := h.in
		if len(f) > 2 && f[2] == "at" {
			in = iface(f[3])
		}
		return l.settle(l.in(in, flt.Src, l.group.Dst, m))
	case "pathtear":
		h, flt := l.homes[f[1]], l.filter(f[1])
		m.Type, m.Hop, m.SenderTemplate = wire.PathTear, &wire.Hop{Addr: l.addr(h.hop), LIH: 9}, &flt
		in := h.in
		if len(f) > 2 {
			in = iface(f[2])
		}
		return l.settle(l.in(in, flt.Src, l.group.Dst, m))
	case "resv", "resvtear":
		out := iface(f[1])
		m.Type, m.Hop, m.Style, m.TimeValues = wire.Resv, &wire.Hop{Addr: l.addr(f[2]), LIH: uint32(out)}, styles[f[3]], refresh
		m.Scope = l.scope(f)
		if f[0] == "resvtear" {
			m.Type, m.TimeValues = wire.ResvTear, nil
		}
		if len(f) > 4 {
			m.Flows = l.flows(m.Style, f[4])
		}
		if slices.Contains(f, "confirm") {
			m.ResvConfirm = l.addr(f[2])
		}
		if slices.Contains(f, "guaranteed") {
			for i := range m.Flows {
				m.Flows[i].FlowSpec = &intserv.FlowSpec{Service: intserv.Guaranteed, TSpec: m.Flows[i].FlowSpec.TSpec, RSpec: intserv.RSpec{Rate: 9e4}}
			}
		}
		return l.settle(l.in(out, m.Hop.Addr, l.our(out), m))
	case "resverr":
		in := map[string]IfIndex{"P1": 1, "P4": 1, "P2": 2, "P3": 2}[f[1]]
		m.Type, m.Hop, m.Style = wire.ResvErr, &wire.Hop{Addr: l.addr(f[1]), LIH: 9}, styles[f[2]]
		m.Flows, m.Scope = l.flows(m.Style, f[3]), l.scope(f)
		last := f[len(f)-1]
		code, _ := strconv.Atoi(strings.Trim(last, "ir"))
		m.ErrorSpec = &wire.ErrorSpec{Node: l.addr(f[1]), Code: wire.ErrorCode(code), Value: 2}
		if strings.HasSuffix(last, "r") {
			m.ErrorSpec.Value = wire.PolicyPartialPreempted
		}
		if strings.HasSuffix(last, "i") {
			m.ErrorSpec.Flags = wire.InPlace
		}
		return l.settle(l.in(in, m.Hop.Addr, l.our(in), m))
	case "patherr":
		flt := l.filter(f[2])
		code, _ := strconv.Atoi(f[3])
		m.Type, m.SenderTemplate, m.ErrorSpec = wire.PathErr, &flt, &wire.ErrorSpec{Node: l.addr("R1"), Code: wire.ErrorCode(code)}
		return l.settle(l.in(iface(f[1]), l.addr("R1"), l.our(iface(f[1])), m))
	case "resvconf":
		m.Type, m.Style, m.ErrorSpec, m.ResvConfirm = wire.ResvConf, styles[f[1]], &wire.ErrorSpec{Node: l.addr("P1")}, l.addr("R1")
		m.Flows = l.flows(m.Style, f[2])
		return l.settle(l.in(1, l.addr("P1"), m.ResvConfirm, m))
	case "members":
		l.members = nil
		for _, s := range f[1:] {
			l.members = append(l.members, iface(s))
		}
	case "home":
		l.homes[f[1]] = home{iface(f[2]), f[3]}
	case "unaware":
		l.env.unaware[l.group.Dst] = true
	case "discover":
		l.env.unaware[l.group.Dst], l.env.discovers = true, true
	case "proxy":
		l.env.proxy = func(i PathInfo) (ReserveSpec, bool) {
			s, _ := sayYes(i)
			s.Style, s.Auto, s.Confirm = styles[f[1]], f[1] == "auto", slices.Contains(f, "confirm")
			return s, true
		}
	case "noproxy":
		l.env.proxy = nil
	case "limit":
		l.limit, _ = strconv.ParseFloat(f[1], 64)
	case "wait":
		d, err := time.ParseDuration(f[1])
		if err != nil {
			l.t.Fatal(err)
		}
		return l.settle(l.run(d))
	case "add":
		name, t := units(f[1])
		es, err := l.n.AddSender(l.now, Sender{Session: l.group, Filter: l.filter(name), TSpec: t, In: l.homes[name].in})
		if err != nil {
			l.t.Fatal(err)
		}
		return l.settle(l.checked(es))
	case "remove":
		return l.settle(l.checked(l.n.RemoveSender(l.now, l.group, l.filter(f[1]))))
	case "withdraw":
		return l.settle(l.checked(l.n.Withdraw(l.now, l.n.sessions[l.group].sorted()[0].id, Refusal{})))
	case "reduce":
		_, ts := units("*{" + f[1] + "}")
		es, err := l.n.Reduce(l.now, l.n.sessions[l.group].sorted()[0].id, intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: ts})
		if err != nil {
			l.t.Fatal(err)
		}
		return l.settle(l.checked(es))
	case "reroute":
		l.n.RouteChanged(l.now, netip.PrefixFrom(l.group.Dst, 8))
		return l.settle(l.run(DefaultRepair))
	default:
		l.t.Fatalf("what is %q?", order)
	}
	return nil
}

// settle has admission control answer.
func (l *lab) settle(es []Effect) []Effect {
	l.t.Helper()
	out := slices.Clone(es)
	for _, e := range es {
		if v, ok := e.(Reserve); ok {
			var refusal *Refusal
			if l.limit > 0 && v.FlowSpec.TSpec.Rate > l.limit*unit {
				refusal = &Refusal{Code: wire.ErrAdmission, Value: wire.AdmissionBandwidth}
			}
			if l.n.byID[v.ID] != nil {
				out = append(out, l.settle(l.checked(l.n.ReserveResult(l.now, v.ID, refusal)))...)
			}
		}
	}
	return out
}

func amount(f intserv.FlowSpec) string { return fmt.Sprintf("{%g}", f.TSpec.Rate/unit) }

func (l *lab) names(list []wire.Filter) string {
	var s []string
	for _, f := range list {
		s = append(s, l.name(f.Src))
	}
	return strings.Join(s, ",")
}

func (l *lab) describe(m *wire.Message) (s string) {
	s = map[wire.Style]string{wire.FF: "FF", wire.SE: "SE", wire.WF: "WF"}[m.Style]
	for i, d := range m.Flows {
		sep := " "
		if i > 0 {
			sep = ","
		}
		s += sep + l.names(d.Filters)
		if m.Style == wire.WF {
			s += "*"
		}
		if d.FlowSpec != nil {
			s += amount(*d.FlowSpec)
		}
	}
	if len(m.Scope) > 0 {
		var list []string
		for _, a := range m.Scope {
			list = append(list, l.name(a))
		}
		s += " [" + strings.Join(list, ",") + "]"
	}
	if m.ResvConfirm.IsValid() {
		s += " confirm"
	}
	return s
}

func errorName(e *wire.ErrorSpec) string {
	s := strconv.Itoa(int(e.Code))
	if reduction(e.Code, e.Value) {
		s += "r"
	}
	return s
}

// tell puts messages, and with tc traffic control's part, into words.
func (l *lab) tell(es []Effect) (msgs, tc []string) {
	ids := map[uint64]bool{}
	for _, e := range es {
		switch e := e.(type) {
		case Send:
			m := e.Msg
			kind := strings.ToLower(m.Type.String())
			switch m.Type {
			case wire.Path, wire.PathTear:
				msgs = append(msgs, fmt.Sprintf("%s %s %s", ifname(e.Out), kind, l.name(m.SenderTemplate.Src)))
			case wire.PathErr:
				msgs = append(msgs, fmt.Sprintf("%s %s %s %s", l.name(e.Dst), kind, errorName(m.ErrorSpec), l.name(m.SenderTemplate.Src)))
			case wire.ResvErr:
				s := fmt.Sprintf("%s %s %s", l.name(e.Dst), kind, errorName(m.ErrorSpec))
				if m.ErrorSpec.Flags&wire.InPlace != 0 {
					s += "i"
				}
				msgs = append(msgs, s+" "+l.describe(m))
			default:
				msgs = append(msgs, fmt.Sprintf("%s %s %s", l.name(e.Dst), kind, l.describe(m)))
			}
		case Reserve:
			s := fmt.Sprintf("%s %s%s", ifname(e.Out), l.names(e.Filters), amount(e.FlowSpec))
			for _, x := range []struct {
				on   bool
				name string
			}{{e.Police.Entry, "E"}, {e.Police.Merge, "M"}, {e.Police.Branch, "B"}} {
				if x.on {
					s += " " + x.name
				}
			}
			tc = append(tc, s)
		case Release:
			if !ids[e.ID] {
				tc = append(tc, "release")
			}
		}
	}
	slices.Sort(msgs)
	return msgs, tc
}
