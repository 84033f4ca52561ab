package demo

import (
	"fmt"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/pkg/console"
)

var addrA, addrB = rig.AddrA.String(), rig.AddrB.String()

// spec writes the five figures of a token bucket TSpec (RFC 2210 3.1) in one
// line: r and p in kbit/s, the others in bytes.
func spec(t *console.TSpec) string {
	if t == nil {
		return "-"
	}
	peak := "inf"
	if t.P != nil {
		peak = kbits(*t.P)
	}
	return fmt.Sprintf("%s %.0f %s %d %d", kbits(t.R), t.B, peak, t.Min, t.Max)
}

func kbits(bytesPerSecond float64) string { return fmt.Sprintf("%.0f", bytesPerSecond*8/1e3) }
