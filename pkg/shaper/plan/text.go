package plan

import (
	"fmt"
	"strings"
	"time"
)

// R2Q marks our HTB among others: HTB keeps the number and, as every class
// states its quantum, never uses it.
const R2Q = 0x5150

// String is the operation as a tc command, the programs' in words.
func (o Op) String() string {
	dev, c := o.Interface, o.Class
	switch o.Kind {
	case DelRoot:
		return fmt.Sprintf("tc qdisc del dev %s root", dev)
	case AddRoot:
		return fmt.Sprintf("tc qdisc add dev %s root handle %s htb default %x r2q %d", dev, RootQdisc, uint32(BestEffort)&0xffff, R2Q)
	case AddClass, ChangeClass:
		return fmt.Sprintf("tc class %s dev %s parent %s classid %s htb %s", verb(o.Kind == AddClass), dev, c.Parent, c.ID, c.text())
	case DelClass:
		return fmt.Sprintf("tc class del dev %s classid %s", dev, c.ID)
	case AddLeaf, ChangeLeaf:
		return fmt.Sprintf("tc qdisc %s dev %s parent %s handle %s %s", verb(o.Kind == AddLeaf), dev, c.ID, c.ID.Leaf(), c.Leaf.text(dev, c.ID))
	case DelLeaf:
		return fmt.Sprintf("tc qdisc del dev %s parent %s handle %s", dev, c.ID, c.ID.Leaf())
	case AttachEgress:
		s := fmt.Sprintf("bpf attach dev %s tcx/egress: treatment of flows", dev)
		if o.Program.Control != 0 {
			s += ", control traffic to " + o.Program.Control.String()
		}
		if o.Program.ByDSCP {
			s += ", then by DSCP"
		}
		if o.Program.PCP != (PCP{}) {
			s += ", pcp " + o.Program.PCP.String()
		}
		return s
	case AttachIngress:
		if o.Program.ByDSCP {
			return fmt.Sprintf("bpf attach dev %s tcx/ingress: DSCP kept within the service levels, else reset", dev)
		}
		return fmt.Sprintf("bpf attach dev %s tcx/ingress: DSCP reset", dev)
	case PutRow:
		return fmt.Sprintf("bpf row put dev %s %s", dev, o.Row.text())
	case DelRow:
		return fmt.Sprintf("bpf row del dev %s %s", dev, o.Row.subject())
	case AttachLearn:
		return fmt.Sprintf("bpf attach dev %s tcx/ingress: frames learned", dev)
	case DetachLearn:
		return fmt.Sprintf("bpf detach dev %s tcx/ingress: frames learned", dev)
	case DetachEgress:
		return fmt.Sprintf("bpf detach dev %s tcx/egress", dev)
	case DetachIngress:
		return fmt.Sprintf("bpf detach dev %s tcx/ingress", dev)
	}
	return fmt.Sprintf("operation %d on %s", o.Kind, dev)
}

func verb(add bool) string {
	if add {
		return "add"
	}
	return "change"
}

func (c Class) text() string {
	return fmt.Sprintf("prio %d rate %s burst %db ceil %s cburst %db quantum %d",
		c.Prio, bits(c.Rate), inTime(c.Rate, c.Burst), bits(c.Ceil), inTime(c.Ceil, c.Cburst), c.Quantum)
}

func (l Leaf) text(dev string, id ClassID) string {
	if l.Kind != "tbf" {
		return fmt.Sprintf("%s limit %d", l.Kind, l.Limit)
	}
	s := fmt.Sprintf("tbf rate %s burst %d limit %d", bits(l.Rate), l.Burst, l.Limit)
	if l.Inner != "" {
		s += fmt.Sprintf("\ntc qdisc add dev %s parent %s %s", dev, id.Leaf()|1, l.Inner)
	}
	return s
}

// inTime is how many bytes a rate sends in a time.
func inTime(rate uint64, d time.Duration) uint64 {
	return uint64(float64(rate) * d.Seconds())
}

// bits writes a rate in bytes/s as tc writes it, in bits.
func bits(rate uint64) string {
	n := rate * 8
	for _, unit := range []string{"bit", "kbit", "mbit"} {
		if n < 1000 || n%1000 != 0 {
			return fmt.Sprintf("%d%s", n, unit)
		}
		n /= 1000
	}
	return strings.TrimSpace(fmt.Sprintf("%dgbit", n))
}
