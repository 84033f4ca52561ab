package main

import (
	"fmt"
	"io"
	"time"
)

// row is what one chain has shown of X.
type row struct {
	Name     string `json:"name"`
	Sessions int    `json:"sessions"`

	// PerCore are set-ups (Path and Resv, in and out) in a second of X's
	// processor time, Chain those that G, X and S together did in a second.
	PerCore float64 `json:"setups_per_cpu_second"`
	Chain   float64 `json:"setups_per_second_of_the_chain"`
	// From AddSender at G to the reservation at G, over two links and three
	// processes: at a calm rate, and as fast as the chain can.
	CalmP50 time.Duration `json:"calm_p50_ns"`
	CalmP99 time.Duration `json:"calm_p99_ns"`
	RushP50 time.Duration `json:"rush_p50_ns"`
	RushP99 time.Duration `json:"rush_p99_ns"`

	TreatP50 time.Duration `json:"treatment_p50_ns,omitempty"`
	TreatP99 time.Duration `json:"treatment_p99_ns,omitempty"`

	Heap     float64 `json:"heap_bytes_per_session"`
	Resident float64 `json:"resident_bytes_per_session"`

	// Share is the part of one processor that X needs while nothing happens
	// but refreshes.
	Share     float64 `json:"refresh_cpu_share,omitempty"`
	Datagrams float64 `json:"refresh_datagrams_sent_per_second,omitempty"`
	Captured  float64 `json:"refresh_datagrams_received_per_second,omitempty"`

	Lost uint64 `json:"messages_lost"` // dropped or not sent, by all three nodes
}

func (r *row) setUps(n int, calm, rush reply, before, after figures) {
	r.PerCore = float64(n) / (after.AskedCPU - before.CPU).Seconds()
	r.Chain = float64(n) / rush.Elapsed.Seconds()
	r.CalmP50, r.CalmP99 = quantile(calm.Latency, 50), quantile(calm.Latency, 99)
	r.RushP50, r.RushP99 = quantile(rush.Latency, 50), quantile(rush.Latency, 99)
	r.TreatP50, r.TreatP99 = quantile(after.Treat, 50), quantile(after.Treat, 99)
}

func (r *row) memory(n int, empty, full figures) {
	r.Heap = (float64(full.Heap) - float64(empty.Heap)) / float64(n)
	r.Resident = (float64(full.Resident) - float64(empty.Resident)) / float64(n)
}

func (r *row) refreshes(a, b figures) {
	t := b.Asked.Sub(a.At).Seconds()
	r.Share = (b.AskedCPU - a.CPU).Seconds() / t
	r.Datagrams = float64(b.Datagrams-a.Datagrams) / t
	r.Captured = float64(b.Captured-a.Captured) / t
}

// quantile of a sorted list, in per cent; 0 of an empty one.
func quantile(list []time.Duration, percent int) time.Duration {
	if len(list) == 0 {
		return 0
	}
	return list[min(len(list)-1, len(list)*percent/100)]
}

func (r row) print(w io.Writer) error {
	_, err := fmt.Fprintf(w, `%s, %d sessions
  set-ups for a second of X's processor   %.0f
  set-ups a second, G, X and S together   %.0f
  set-up time, calm        p50 %s  p99 %s
  set-up time, flat out    p50 %s  p99 %s
`, r.Name, r.Sessions, r.PerCore, r.Chain, ms(r.CalmP50), ms(r.CalmP99), ms(r.RushP50), ms(r.RushP99))
	if err == nil && r.TreatP50 > 0 {
		_, err = fmt.Fprintf(w, "  the kernel's treatment   p50 %s  p99 %s\n", ms(r.TreatP50), ms(r.TreatP99))
	}
	if err == nil {
		_, err = fmt.Fprintf(w, "  memory for a session at X   heap %.0f B, resident %.0f B\n", r.Heap, r.Resident)
	}
	if err == nil && r.Share > 0 {
		_, err = fmt.Fprintf(w, "  refreshes at X           %.1f %% of one processor, %.0f datagrams/s out, %.0f in\n", 100*r.Share, r.Datagrams, r.Captured)
	}
	if err == nil {
		_, err = fmt.Fprintf(w, "  messages lost            %d\n\n", r.Lost)
	}
	return err
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/1e6) }
