package daemon

import (
	"strings"
	"time"

	"github.com/qosproxy/qosproxy/pkg/admission/etcd"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// ledgerStatus says where admission keeps its accounts.
func (d *Daemon) ledgerStatus() console.LedgerStatus {
	if d.shared == nil {
		return console.LedgerStatus{Kind: "memory"}
	}
	s := d.shared.Status()
	return console.LedgerStatus{
		Kind: "etcd", State: strings.ReplaceAll(string(s.State), " ", "-"), Reason: s.Reason, SinceS: seconds(time.Since(s.Since)), Box: s.Box,
	}
}

func (d *Daemon) sharedStats() *console.SharedStats {
	if d.shared == nil {
		return nil
	}
	n := d.shared.Status().Counters
	return &console.SharedStats{
		Granted: n.Granted, Refused: n.Refused, Failed: n.Failed, ByQuota: n.ByQuota, Crowded: n.Crowded, Conflicts: n.Conflicts,
		Registered: n.Registered, LeasesLost: n.Lost, Over: n.Over, WatchErrors: n.WatchErrors,
	}
}

// sharedRows lists what a link and its service levels share with other boxes, in
// the order of the configuration.
func (d *Daemon) sharedRows(k *link) (rows []console.SharedRow) {
	if d.shared == nil {
		return nil
	}
	list := d.shared.Status().Accounts
	if k.cfg.Shared != "" {
		rows = append(rows, sharedRow(list, k.cfg.Shared, ""))
	}
	seen := map[uint8]bool{}
	for _, s := range k.cfg.SLS {
		if s.Shared != "" && !seen[s.Class] {
			rows = append(rows, sharedRow(list, s.Shared, dscp.Name(s.Class)))
		}
		seen[s.Class] = true
	}
	return rows
}

// sharedRow joins an account of rates with that of bursts, if there is one.
func sharedRow(list []etcd.AccountStatus, name, level string) console.SharedRow {
	row := console.SharedRow{Name: name, Level: level}
	boxes := map[string]int{}
	for _, a := range list {
		if a.Name != name {
			continue
		}
		if a.Burst {
			row.LimitBurst, row.HeldBurst, row.OwnBurst = uint64(a.Limit), uint64(a.Held), uint64(a.Own)
		} else {
			row.LimitBPS, row.HeldBPS, row.OwnBPS = uint64(a.Limit)*8, uint64(a.Held)*8, uint64(a.Own)*8
		}
		for _, b := range a.Boxes {
			n, ok := boxes[b.Box]
			if !ok {
				n = len(row.Boxes)
				boxes[b.Box] = n
				row.Boxes = append(row.Boxes, console.SharedBox{Box: b.Box})
			}
			if a.Burst {
				row.Boxes[n].HeldBurst = uint64(b.Sum)
			} else {
				row.Boxes[n].HeldBPS = uint64(b.Sum) * 8
			}
		}
	}
	return row
}
