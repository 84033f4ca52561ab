package etcd

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/admission"
	"github.com/qosproxy/qosproxy/pkg/admission/etcd/etcdtest"
	"github.com/qosproxy/qosproxy/pkg/intserv"
)

// BenchmarkDecide is how many reservations per second are admitted, each of them
// new, that count in a link of one box and a service level that is shared: with
// the ledger in memory, and in etcd for one box and for three that want the same
// account. Each write of etcd reaches the disk.
func BenchmarkDecide(b *testing.B) {
	b.Run("memory", func(b *testing.B) { decide(b, admission.NewMemory()) })
	for _, members := range []int{1, 3} {
		for _, boxes := range []int{1, 3} {
			b.Run(fmt.Sprintf("etcd/members=%d/boxes=%d", members, boxes), func(b *testing.B) {
				c := etcdtest.Start(b, members, true)
				list := make([]admission.Ledger, 0, boxes)
				for i := range boxes {
					list = append(list, benchBox(b, c, fmt.Sprint("box", i)))
				}
				decide(b, list...)
			})
		}
	}
}

func benchBox(b *testing.B, c *etcdtest.Cluster, name string) *Ledger {
	b.Helper()
	l, err := New(Options{Endpoints: c.Endpoints(), Prefix: "/bench", Box: name, Home: name, TTL: time.Minute, Timeout: 5 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	if err := l.SetShared(map[admission.Account]Shared{level: {Name: "sla", Limit: 1 << 40}, level + "/burst": {Name: "sla", Burst: true, Limit: 1 << 40}}); err != nil {
		b.Fatal(err)
	}
	l.Start(10 * time.Second)
	b.Cleanup(func() { _ = l.Stop(context.Background(), false) })
	return l
}

func decide(b *testing.B, ledgers ...admission.Ledger) {
	b.Helper()
	link := admission.Link{
		Name: "wan0", Capacity: 1 << 40, Reservable: 1 << 40, Contract: true, Levels: []admission.Level{{DSCP: 26, Rate: 1 << 40, Burst: 1 << 40}},
	}
	next := make(chan int)
	var wg sync.WaitGroup
	for _, l := range ledgers {
		c := admission.New(l, 1<<30, link)
		wg.Go(func() {
			for i := range next {
				d := c.Admit(admission.Request{ID: admission.ID(fmt.Sprint(i)), Link: "wan0", Level: 26, FlowSpec: intserv.FlowSpec{
					Service: intserv.ControlledLoad, TSpec: intserv.TSpec{Rate: 1000, Bucket: 3000, Peak: 1e6, MinUnit: 64, MaxPacket: 1500},
				}})
				if !d.Admitted {
					b.Errorf("refused: %s", d.Reason)
				}
			}
		})
	}
	b.ResetTimer()
	began := time.Now()
	for i := range b.N {
		next <- i
	}
	close(next)
	wg.Wait()
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "admissions/s")
}
