package plan

import (
	"fmt"
	"strings"

	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// PCP has the priorities (IEEE 802.1Q, 0 to 7) that the outer VLAN tags of packets
// leave with, by DSCP. The zero value leaves all as they are.
type PCP [dscp.Max + 1]uint8 // 1 + the priority, 0: as it is

// Set gives packets with a DSCP a priority.
func (p *PCP) Set(code, to uint8) { p[code&dscp.Max] = 1 + to&7 }

// String lists them as the configuration does.
func (p PCP) String() string {
	var list []string
	for code, to := range p {
		if to > 0 {
			list = append(list, fmt.Sprintf("%s: %d", dscp.Name(uint8(code)), to-1))
		}
	}
	return "{" + strings.Join(list, ", ") + "}"
}
