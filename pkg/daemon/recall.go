package daemon

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/promise"
	"github.com/qosproxy/qosproxy/pkg/statefile"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// A process that was killed could not give its cheated connections back. Where the
// receiver had all that its source was told, the two ends need nobody. Where it had
// not, the workers look after them: see tcpcheat.

// reasonWhole is why such a connection is not cheated any more.
const reasonWhole = "; not cheated: an earlier process ended while it was, and its receiver had everything"

// reasonOpen is what its row says while it is looked after.
const reasonOpen = "; not cheated"

// keepPromises joins the record of promises to the other rooms.
func (d *Daemon) keepPromises(c *config.Config) {
	d.promises = &promises{
		dir: c.StateDir, memory: memoryDirs(), claim: d.hands.claim, slots: c.Limits.Flows, log: d.log, boot: bootID(), now: time.Now, since: bootTime(),
		sides: func(key packet.FlowKey) (in, out int) {
			f, _, _ := d.flows.get(key)
			return f.in, f.out
		},
	}
	if err := d.promises.load(); err != nil {
		d.log.Warn("connections that an earlier process has cheated may hang", zap.Error(err))
	}
	d.recordIfCheating(c)
	d.hands.cheats = func() { _ = d.promises.open() } // it has told
}

// recordIfCheating makes the file before the first connection needs it, which it
// would else wait for.
func (d *Daemon) recordIfCheating(c *config.Config) {
	need := d.promises.owes()
	for i := range c.Policies {
		need = need || cheats(c.Policies[i].TCP)
	}
	if need {
		_ = d.promises.open() // it has told
	}
}

// bootTime is when the machine was started, less what it has slept since. It has
// the monotonic reading that time.Time compares by, so whoever sets the clock does not
// move it; another process comes to the same.
func bootTime() time.Time {
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &up); err != nil {
		return time.Now() // every kernel has it; and then records are not too old
	}
	return time.Now().Add(-time.Duration(up.Nano()))
}

// bootID is the kernel's; zero where it has none.
func bootID() (id [16]byte) {
	text, err := statefile.Boot()
	if err != nil {
		return id
	}
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err == nil && len(b) == len(id) {
		copy(id[:], b)
	}
	return id
}

// recall takes over the connections that an earlier process has cheated.
func (d *Daemon) recall(now time.Time) {
	left := d.promises.handOver()
	if len(left) == 0 {
		return
	}
	place := d.placer()
	open := 0
	for i := range left {
		if d.recallOne(now, place, &left[i]) {
			open++
		}
	}
	d.log.Info("an earlier process has cheated connections", zap.Int("connections", len(left)), zap.Int("looked_after", open))
}

// recallOne has a connection's row say what became of it, and its worker look after
// it if its receiver may lack something; whether that was so.
func (d *Daemon) recallOne(now time.Time, place placer, k *promise.Kept) (open bool) {
	key, open := k.Key, k.Promise.Open() > 0
	in, out := sidesOf(d.links.Load(), place, k)
	known := d.flows.has(key)
	if !known && (in == 0 || out == 0) && !open {
		d.promises.count.whole.add()
		return false // its next packet makes its row
	}
	d.flows.ensure(now, key, in, out, d.flows.policyOf(key))
	shard, caveat := -1, reasonWhole
	if open {
		shard, caveat = int(key.Hash()%uint32(d.flows.shards)), reasonOpen
	}
	d.flows.update(key, func(c *conn, f *flow) {
		c.shard, c.data, f.caveat = shard, key, caveat
	})
	if !d.flows.has(key) {
		if open {
			d.promises.drop(key)
			d.log.Warn("the flow table is full: a connection that an earlier process has cheated may hang", zap.Stringer("flow", key))
		}
		return false
	}
	if !known {
		d.begin(key)
	}
	if !open {
		d.promises.count.whole.add()
		return false
	}
	d.promises.count.open.add()
	if err := d.table.Load().AddCheated(shard, bothWays(key)...); err != nil {
		// Nothing that its ends say would be heard.
		d.promises.drop(key)
		d.flows.update(key, func(c *conn, f *flow) { c.shard, f.caveat = -1, "; not cheated: "+err.Error() })
		d.log.Warn("a connection that an earlier process has cheated cannot be queued, and may hang", zap.Stringer("flow", key), zap.Error(err))
		return false
	}
	d.cheat.recall(shard, k.Promise, func() { d.promises.drop(key) })
	d.log.Info("a connection that an earlier process has cheated is looked after", zap.Stringer("flow", key), zap.Int("bytes", k.Promise.Open()))
	return true
}

// begin does for a connection whose first packet was not seen what is done with
// that: it is counted, and its sender is spoken for.
func (d *Daemon) begin(key packet.FlowKey) {
	for _, k := range bothWays(key) {
		f, _, ok := d.flows.get(k)
		if !ok || f.policy == nil {
			continue
		}
		d.first.treat([]flow{f})
		if f.role == roleSender {
			d.first.ask(f)
		}
	}
}

// sidesOf is by which interfaces a connection's data comes and goes; 0: not known.
func sidesOf(l *links, place placer, k *promise.Kept) (in, out int) {
	in, out = int(k.In), int(k.Out)
	find := func(index int, host, peer netip.Addr) int {
		if l.byIndex[index] != nil {
			return index
		}
		hop, err := place(host, peer)
		if err != nil {
			return 0
		}
		return hop.Index
	}
	return find(in, k.Key.SrcAddr(), k.Key.DstAddr()), find(out, k.Key.DstAddr(), k.Key.SrcAddr())
}

// has tells whether a flow is in the table.
func (t *flowTable) has(key packet.FlowKey) bool {
	_, _, ok := t.get(key)
	return ok
}

// recall has a worker look after a connection that an earlier process has cheated;
// refused is called if it cannot.
func (w *cheatWorkers) recall(shard int, p tcpcheat.Promise, refused func()) {
	w.handlers[shard].post(func(now time.Time, e *tcpcheat.Engine) {
		if err := e.Recall(now, &p); err != nil {
			refused()
			w.failed(p.Key, err)
		}
	})
}
