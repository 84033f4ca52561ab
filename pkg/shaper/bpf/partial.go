package bpf

import (
	"github.com/cilium/ebpf"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// The kinds of rows that name less of a packet than its five-tuple, as bits for
// the program (treatment.c): it looks for those that there are.
const (
	kindSport = iota // any source port
	kindPorts        // any ports
	kindLabel        // the flow label in the place of the source port
	kinds
)

// kindOf returns the kind of a row; false for one that names a whole five-tuple,
// or an SPI.
func kindOf(k packet.FlowKey) (kind int, partial bool) {
	switch {
	case k.Label != 0:
		return kindLabel, true
	case k.SPI() != 0 || k.SrcPort != 0:
		return 0, false
	case k.DstPort != 0:
		return kindSport, true
	default: // of a protocol without ports it is as good as a five-tuple
		return kindPorts, ported(k.Proto)
	}
}

// ported tells protocols whose header begins with two ports; as in the program.
func ported(proto uint8) bool {
	switch proto {
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoDCCP, packet.ProtoSCTP, packet.ProtoUDPLite:
		return true
	default:
		return false
	}
}

// counted keeps account of a row that comes (1) or has gone (-1), and tells the
// program when that is the first or the last of its kind.
func (t *Table) counted(k packet.FlowKey, by int) error {
	kind, partial := kindOf(k)
	if !partial {
		return nil
	}
	before := t.rows[kind]
	t.rows[kind] += by
	if (before == 0) == (t.rows[kind] == 0) {
		return nil
	}
	if err := t.tellPartial(); err != nil {
		t.rows[kind] = before
		return err
	}
	return nil
}

func (t *Table) tellPartial() error {
	zero, bits := uint32(0), uint32(0)
	for kind, n := range t.rows {
		if n > 0 {
			bits |= 1 << kind
		}
	}
	return explain("tell the program what rows there are", t.partial.Update(raw(&zero), raw(&bits), ebpf.UpdateAny))
}

// countPartial counts the rows of a table that was found.
func (t *Table) countPartial() error {
	if t.Adopted {
		err := eachOf(t.flows, func(key treatmentFlowKey, _ *treatmentFlow) {
			if kind, partial := kindOf(key.flowKey()); partial {
				t.rows[kind]++
			}
		})
		if err != nil {
			return err
		}
	}
	return t.tellPartial()
}
