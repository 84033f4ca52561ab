package plan

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// Row is one row of the kernel's table of code points: what becomes of the packets
// with a DSCP that leave through an interface, or arrive on it, and that no
// reservation covers. Rows of equal value are the same row in the kernel.
type Row struct {
	Arriving bool
	DSCP     uint8
	// Policed rows pass Rate (bytes/s) and Burst (bytes), in IP bytes: none of
	// it where both are 0.
	Policed     bool
	Rate, Burst uint64
	// What exceeds is dropped, or leaves with the DSCP Excess by ExcessClass.
	Drop        bool
	Excess      uint8
	Class       ClassID // 0: as the packet was
	ExcessClass ClassID
}

// sortRows puts rows into the order that they have in a State.
func sortRows(rows []Row) {
	slices.SortFunc(rows, Row.Compare)
}

// Compare orders rows: those of what leaves first, by DSCP.
func (r Row) Compare(o Row) int {
	return cmp.Or(cmp.Compare(way(r.Arriving), way(o.Arriving)), cmp.Compare(r.DSCP, o.DSCP))
}

func way(arriving bool) int {
	if arriving {
		return 1
	}
	return 0
}

// same tells whether two rows are about the same packets.
func (r Row) same(o Row) bool { return r.Arriving == o.Arriving && r.DSCP == o.DSCP }

// row returns the row of the port that is about the same packets.
func (p Port) row(r Row) (Row, bool) {
	i := slices.IndexFunc(p.Rows, r.same)
	if i < 0 {
		return Row{}, false
	}
	return p.Rows[i], true
}

// subject is which packets the row is about.
func (r Row) subject() string {
	if r.Arriving {
		return fmt.Sprintf("arriving dscp %s", dscp.Name(r.DSCP))
	}
	return fmt.Sprintf("leaving dscp %s", dscp.Name(r.DSCP))
}

// text is the row in words.
func (r Row) text() string {
	s := r.subject() + ":"
	if r.Class != 0 {
		s += " class " + r.Class.String()
	}
	if !r.Policed {
		return s + " all conforms"
	}
	if r.Rate == 0 {
		s += " nothing conforms, it is "
	} else {
		s += fmt.Sprintf(" police rate %s burst %db, excess ", bits(r.Rate), r.Burst)
	}
	if r.Drop {
		return s + "dropped"
	}
	s += "remarked " + dscp.Name(r.Excess)
	if r.ExcessClass != 0 {
		s += " class " + r.ExcessClass.String()
	}
	return s
}
