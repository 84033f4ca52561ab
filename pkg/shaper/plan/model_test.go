package plan

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/packet"
)

// kernel is a model of what operations do, as strict as the real one.
type kernel map[string]*Port

func (k kernel) apply(op Op) error {
	p := k[op.Interface]
	if p == nil {
		p = &Port{Name: op.Interface}
		k[op.Interface] = p
	}
	at := slices.IndexFunc(p.Classes, func(c Class) bool { return c.ID == op.Class.ID })
	need := func(ok bool) error {
		if !ok {
			return fmt.Errorf("impossible: %s", op)
		}
		return nil
	}
	switch op.Kind {
	case AddRoot:
		err := need(!p.Root)
		p.Root, p.Classes = true, nil
		return err
	case DelRoot:
		err := need(p.Root)
		p.Root, p.Classes = false, nil
		return err
	case AddClass:
		c := op.Class
		c.Leaf = Leaf{}
		p.Classes = append(p.Classes, c)
		return need(p.Root && at < 0)
	case ChangeClass:
		if at < 0 {
			return need(false)
		}
		leaf := p.Classes[at].Leaf
		p.Classes[at] = op.Class
		p.Classes[at].Leaf = leaf
	case DelClass:
		// No row leads there any more.
		named := slices.ContainsFunc(p.Rows, func(r Row) bool { return r.Class == op.Class.ID || r.ExcessClass == op.Class.ID })
		if at < 0 || named {
			return need(false)
		}
		p.Classes = slices.Delete(p.Classes, at, at+1)
	case AddLeaf, ChangeLeaf, DelLeaf:
		if at < 0 {
			return need(false)
		}
		leaf := &p.Classes[at].Leaf
		err := need((*leaf == Leaf{}) == (op.Kind == AddLeaf))
		*leaf = op.Class.Leaf
		if op.Kind == DelLeaf {
			*leaf = Leaf{}
		}
		return err
	case PutRow:
		p.Rows = append(slices.DeleteFunc(p.Rows, op.Row.same), op.Row)
		sortRows(p.Rows)
		_, class := p.Class(op.Row.Class)
		_, excess := p.Class(op.Row.ExcessClass)
		return need((class || op.Row.Class == 0) && (excess || op.Row.ExcessClass == 0))
	case DelRow:
		before := len(p.Rows)
		p.Rows = slices.DeleteFunc(p.Rows, op.Row.same)
		return need(len(p.Rows) < before)
	case AttachEgress:
		p.Egress = op.Program
	case AttachIngress:
		p.Ingress = op.Program
	case AttachLearn:
		p.Learn = op.Program
	case DetachLearn:
		err := need(p.Learn.Attached)
		p.Learn = Program{}
		return err
	case DetachEgress:
		err := need(p.Egress.Attached)
		p.Egress = Program{}
		return err
	case DetachIngress:
		err := need(p.Ingress.Attached)
		p.Ingress = Program{}
		return err
	}
	return nil
}

func (k kernel) state() State {
	var s State
	for _, p := range k {
		s.Ports = append(s.Ports, Port{Name: p.Name, Root: p.Root, Classes: slices.Clone(p.Classes), Rows: slices.Clone(p.Rows), Egress: p.Egress, Ingress: p.Ingress, Learn: p.Learn})
	}
	return s.sorted()
}

func flowKey(port int) packet.FlowKey {
	return packet.MakeKey(packet.ProtoUDP, netip.AddrPortFrom(netip.MustParseAddr("10.1.0.2"), uint16(port)), netip.MustParseAddrPort("10.2.0.2:5004"))
}

func drawState(t *rapid.T) State {
	var p Plan
	facts := map[string]Facts{}
	var flows []Assigned
	p.Frames = rapid.IntRange(0, 1).Draw(t, "frames")
	for _, name := range []string{"lan0", "wan0", "wan1"} {
		if !rapid.Bool().Draw(t, name) {
			continue
		}
		itf := Interface{Name: name, ResetDSCP: rapid.Bool().Draw(t, "reset")}
		if rapid.Bool().Draw(t, "shaped") {
			itf.Capacity = rapid.Uint64Range(minCapacity, 1e10).Draw(t, "capacity")
		}
		itf.EF = rapid.SampledFrom([]EFModel{EFPolicer, EFPriority}).Draw(t, "EF")
		if rapid.Bool().Draw(t, "priorities") {
			itf.PCP.Set(rapid.Uint8Range(0, dscp.Max).Draw(t, "of DSCP"), rapid.Uint8Range(0, 7).Draw(t, "PCP"))
		}
		itf.Policed, itf.ByDSCP = rapid.Bool().Draw(t, "policed"), rapid.Bool().Draw(t, "by DSCP")
		itf.Levels, itf.Arriving = drawLevels(t, itf.Capacity, bestEffortShare), drawLevels(t, 1e6, bestEffortShare)
		p.Interfaces = append(p.Interfaces, itf)
		facts[name] = Facts{MTU: rapid.SampledFrom([]uint32{1280, 1500, 9000}).Draw(t, "MTU"), Header: 14, Ethernet: rapid.Bool().Draw(t, "Ethernet"), FQCodel: rapid.Bool().Draw(t, "fq_codel")}
		for i := range rapid.IntRange(0, 3).Draw(t, "flows") {
			flow := Assigned{Class: FirstPooled + ClassID(i), Treatment: Treatment{
				Key: flowKey(i), Interface: name, Mark: true, DSCP: rapid.SampledFrom([]uint8{dscp.AF31, dscp.VoiceAdmit, dscp.EF}).Draw(t, "DSCP"), Rate: rapid.Float64Range(1, 1e9).Draw(t, "rate"), Bucket: rapid.Float64Range(0, 1e6).Draw(t, "bucket"),
				Peak: math.Inf(1), Cheated: rapid.Bool().Draw(t, "cheated"), RealTime: rapid.Bool().Draw(t, "real time"), Reserve: true,
			}}
			if itf.Joins(flow.Treatment) {
				flow.Class = Common
			}
			flows = append(flows, flow)
		}
	}
	return Want(p, facts, flows)
}

// From any state to any other: each step is possible, and in the end nothing
// is left to do but for idle classes.
func TestDiffLeadsFromAnyStateToAnyOther(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := kernel{}
		for _, want := range []State{drawState(t), drawState(t), drawState(t), {}} {
			for _, op := range Diff(k.state(), want) {
				if err := k.apply(op); err != nil {
					t.Fatal(err)
				}
			}
			if ops := Diff(k.state(), want); len(ops) > 0 {
				t.Fatalf("still to do: %v", ops)
			}
			for _, w := range want.Ports {
				got := k.state().Port(w.Name)
				if len(got.Rows) == 0 {
					got.Rows = nil
				}
				got.Classes = slices.DeleteFunc(got.Classes, func(c Class) bool { _, ok := w.Class(c.ID); return !ok && c.ID.Pooled() })
				if len(got.Classes) == 0 {
					got.Classes = nil
				}
				if len(got.Rows) == 0 {
					got.Rows = nil
				}
				if d := cmp.Diff(w, got); d != "" {
					t.Fatal(d)
				}
			}
		}
		for _, p := range k.state().Ports {
			if p.Root || p.Egress.Attached || p.Ingress.Attached || len(p.Rows) > 0 {
				t.Fatalf("left: %+v", p)
			}
		}
	})
}
