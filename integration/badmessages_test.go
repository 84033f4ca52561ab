package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// answered is what a bad message is answered with.
type answered struct {
	code  wire.ErrorCode
	value uint16
}

// refusal is how a bad message has to end: answered, or counted by a kind of
// `stats` and dropped, or both.
type refusal struct {
	name   string
	answer *answered
	kind   string
	say    spoken
}

// Numbers of a TSpec as their four bytes.
const (
	nan      = "7fc00000"
	infinite = "7f800000"
	negative = "c5bb8000" // -6000
	swapped  = "0080bb45" // 6000 in the other byte order, as a real sender is known to send it
	minusNil = "80000000"
)

// badPaths are PATHs that end at this hop (RFC 2205 sections 3.1.2, 3.2 and
// 3.10 and Appendix B, RFC 2210 section 3.1).
func badPaths() []refusal {
	bad := func(name string, answer *answered, kind string, change func(*spoken)) refusal {
		m := path(7100, 4000)
		change(&m)
		return refusal{name, answer, kind, m}
	}
	tspec := func(name string, t ...any) refusal {
		return bad("TSpec with "+name, &answered{wire.ErrTrafficControl, wire.TCBadTSpec}, "traffic-control", func(m *spoken) { m.TSpec = t })
	}
	without := func(object string) refusal {
		return bad("no "+object, nil, "missing-object", func(m *spoken) { m.Without = []string{object} })
	}
	return []refusal{
		tspec("r that is no number", nan, 6000, 6000, 0, 1500),
		tspec("b that is no number", 6000, nan, 6000, 0, 1500),
		tspec("p that is no number", 6000, 6000, nan, 0, 1500),
		tspec("infinite r", infinite, 6000, infinite, 0, 1500),
		tspec("infinite b", 6000, infinite, 6000, 0, 1500),
		tspec("negative r", negative, 6000, 6000, 0, 1500),
		tspec("negative b", 6000, negative, 6000, 0, 1500),
		tspec("negative zero", minusNil, 6000, 6000, 0, 1500),
		tspec("bytes the wrong way round", swapped, swapped, swapped, 0, 1500),
		tspec("m above M", 6000, 6000, 6000, 1500, 64),
		without("session"), without("hop"), without("refresh"), without("sender"), without("tspec"),
		bad("object without a length", nil, "object-length", func(m *spoken) { m.Patch = [][]any{{8, "0000"}} }),
		bad("object of 3 bytes", nil, "object-length", func(m *spoken) { m.Patch = [][]any{{8, "0003"}} }),
		bad("object past the end", nil, "object-length", func(m *spoken) { m.Patch = [][]any{{8, "0400"}} }),
		bad("class 0bbbbbbb unknown", &answered{wire.ErrUnknownClass, 0x5507}, "unknown-class", func(m *spoken) { m.Extra = [][]any{{0x55, 7, "01020304"}} }),
		bad("C-Type unknown", &answered{wire.ErrUnknownCType, 0x0b63}, "unknown-ctype", func(m *spoken) {
			m.Without, m.Extra = []string{"sender"}, [][]any{{11, 0x63, "0a01000200000fa0"}}
		}),
		bad("wrong checksum", nil, "checksum", func(m *spoken) { m.Patch, m.KeepSum = [][]any{{2, "1234"}}, true }),
		bad("version 2", nil, "version", func(m *spoken) { m.Version = new(2) }),
		bad("length too long", nil, "length", func(m *spoken) { m.Patch = [][]any{{6, "0400"}} }),
		bad("cut off", nil, "length", func(m *spoken) { m.Cut = 4 }),
		bad("protocol 0", nil, "protocol", func(m *spoken) { m.Session[1] = 0 }),
		bad("sender without an address", nil, "address", func(m *spoken) { m.Sender[0] = "0.0.0.0" }),
		bad("SrcPort without DstPort", nil, "source-port", func(m *spoken) { m.Session[2] = 0 }),
		bad("DstPort 0 beside others", &answered{wire.ErrDstPorts, 0}, "", func(m *spoken) { m.Session[2], m.Sender[1] = 0, 0 }),
		bad("SrcPort 0 beside others", &answered{wire.ErrSrcPorts, 0}, "", func(m *spoken) { m.Session[2], m.Sender[1] = portQuiet, 0 }),
		bad("previous hop is the box itself", nil, "hop", func(m *spoken) { m.Hop[0] = boxUp }),
		bad("PathTear of nothing", nil, "no-state", func(m *spoken) { m.Type, m.Refresh = "pathtear", 0 }),
		bad("PathTear of another hop", nil, "wrong-hop", func(m *spoken) {
			m.Type, m.Refresh, m.Session[2], m.Hop[0] = "pathtear", 0, portQuiet, "10.1.0.77"
		}),
	}
}

// badResvs are RESVs that end here (RFC 2205 sections 2.4, 3.1.4 and 3.1.8).
func badResvs(lih uint32) []refusal {
	bad := func(name string, answer *answered, kind string, change func(*spoken)) refusal {
		m := resv(portQuiet, 4000, lih)
		change(&m)
		return refusal{name, answer, kind, m}
	}
	flowspec := func(name string, t ...any) refusal {
		return bad("FLOWSPEC with "+name, &answered{wire.ErrTrafficControl, wire.TCBadFlowSpec}, "", func(m *spoken) { m.Flows[0].FlowSpec = t })
	}
	return []refusal{
		flowspec("r that is no number", nan, 6000, 6000, 0, 1500),
		flowspec("infinite b", 6000, infinite, 6000, 0, 1500),
		flowspec("negative p", 6000, 6000, negative, 0, 1500),
		flowspec("bytes the wrong way round", swapped, swapped, swapped, 0, 1500),
		bad("packets above the MTU", &answered{wire.ErrAdmission, wire.AdmissionMTU}, "", func(m *spoken) { m.Flows[0].FlowSpec = []any{6000, 6000, 6000, 0, 9000} }),
		bad("more than the link", &answered{wire.ErrAdmission, wire.AdmissionBandwidth}, "", func(m *spoken) {
			m.Flows[0].FlowSpec = []any{5e6, 6000, 5e6, 0, 1500}
			m.Session[2] = portQuiet + 1
		}),
		bad("no path", &answered{wire.ErrNoPath, 0}, "", func(m *spoken) { m.Session[2] = 7199 }),
		bad("no sender", &answered{wire.ErrNoSender, 0}, "", func(m *spoken) { m.Flows[0].Filters[0][1] = 4999 }),
		bad("style against the existing one", &answered{wire.ErrStyleConflict, uint16(wire.FF)}, "", func(m *spoken) {
			m.Style, m.Flows = "wf", []flowSaid{{FlowSpec: ciscoFlowSpec}}
		}),
		bad("unknown class 0bbbbbbb", &answered{wire.ErrUnknownClass, 0x5401}, "unknown-class", func(m *spoken) { m.Extra = [][]any{{0x54, 1, "00000000"}} }),
		bad("a handle that is none of ours", nil, "lih", func(m *spoken) { m.Hop[1] = uint32(0xdeadbeef) }),
		bad("no STYLE", nil, "missing-object", func(m *spoken) { m.Without, m.Flows = []string{"style"}, nil }),
		bad("flow descriptors before STYLE", nil, "object-order", func(m *spoken) { m.Without = []string{"style"} }),
		bad("no FLOWSPEC", nil, "flow-count", func(m *spoken) { m.Flows[0].FlowSpec = nil }),
		bad("ResvTear of nothing", nil, "no-state", func(m *spoken) {
			m.Type, m.Refresh, m.Session[2] = "resvtear", 0, 7199
		}),
		bad("ResvErr of nothing", nil, "no-state", func(m *spoken) {
			m.Type, m.Refresh, m.Session[2], m.Error = "resverr", 0, 7199, []any{addrB.String(), 0, 2, 0}
		}),
		bad("a message type that does not exist", nil, "message-type", func(m *spoken) { m.Type = "77" }),
	}
}

// Each bad message gets the error that the RFC has for it, or is dropped and
// counted by kind; what another neighbour's session has is not disturbed.
func TestScapyBadMessages(t *testing.T) {
	t.Parallel()
	n := newNeighbours(t, transit())
	box := n.boxes[0]
	lih := n.reserve(t, portQuiet)
	// Path state for the reservation that asks for too much.
	begin := time.Now()
	large := path(portQuiet+1, 4000)
	large.TSpec = []any{5e6, 6000, 5e6, 0, 1500}
	n.up.say(t, large)
	n.down.hears(t, wire.Path, begin, toSession(portQuiet+1))
	kinds := func() map[string]uint64 {
		t.Helper()
		st, err := box.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return st.RSVP.Errors.Refused
	}
	check := func(from *mouth, kind wire.MsgType, r refusal) {
		t.Run(r.name, func(t *testing.T) {
			before, begin := kinds(), time.Now()
			from.say(t, r.say)
			if r.answer != nil {
				m, _ := from.hears(t, kind, begin, nil)
				if e := m.ErrorSpec; e.Code != r.answer.code || e.Value != r.answer.value {
					t.Errorf("answered with code %d value %#x, want %d and %#x", e.Code, e.Value, r.answer.code, r.answer.value)
				}
			}
			if r.kind == "" {
				return
			}
			eventually(t, 5*time.Second, "counted as "+r.kind, func() error {
				if now := kinds(); now[r.kind] != before[r.kind]+1 {
					return fmt.Errorf("before %v, now %v", before, now)
				}
				return nil
			})
			if frames := captured(t, from.heard); r.answer == nil {
				for _, f := range frames {
					if f.At.After(begin) && !f.Outgoing {
						if m, err := message(f.Data); err == nil && (m.Type == wire.PathErr || m.Type == wire.ResvErr) {
							t.Errorf("answered with %s %+v, want silence", m.Type, m.ErrorSpec)
						}
					}
				}
			}
		})
	}
	for _, r := range badPaths() {
		check(n.up, wire.PathErr, r)
	}
	for _, r := range badResvs(lih) {
		check(n.down, wire.ResvErr, r)
	}

	// RFC 2205 section 3.10: the other two kinds of unknown classes.
	t.Run("classes that pass", func(t *testing.T) {
		begin := time.Now()
		m := path(7200, 4000)
		m.Extra = [][]any{{0x95, 1, "aabbccdd"}, {0xd5, 9, "11223344"}}
		n.up.say(t, m)
		_, s := n.down.hears(t, wire.Path, begin, toSession(7200))
		if s.object(0x95) != "" || s.object(0xd5) != "11223344" {
			t.Errorf("scapy sees %+v: want 10bbbbbb left out and 11bbbbbb passed on as it is", s.Objects)
		}
	})
	row := box.waitSession(t, portQuiet, console.SessionReserved)
	if row.Error != "" || row.FlowSpec.R != 6000 {
		t.Errorf("the quiet session is %+v", row)
	}
	if st, err := box.Status(t.Context()); err != nil || st.State != "running" || len(st.Problems) > 0 {
		t.Errorf("status %+v, %v", st, err)
	}
}
