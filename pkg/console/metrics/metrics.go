package metrics

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/qosproxy/qosproxy/pkg/console"
)

const namespace = "qosproxy"

// Bounds of the labels that come from the config or from the engines; what is
// beyond is added up under the value "other".
const (
	maxReasons  = 32
	maxPolicies = 200
	maxLinks    = 64
	other       = "other"
)

// Handler answers GET /metrics from what the backend shows, together with the
// process's own figures.
func Handler(b console.Backend) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(&collector{b}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

type collector struct{ b console.Backend }

// Describe sends nothing: an unchecked collector, whose series depend on the
// config in use.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the backend once for each kind of row.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := sink{ch}
	s.status(c.b.Status(), c.b.Healthy() == nil)
	s.stats(c.b.Stats())
	s.links(c.b.Links())
	s.policies(c.b.Policies())
}

// sink sends metrics in few words.
type sink struct{ ch chan<- prometheus.Metric }

// family is one metric name with its label names.
type family struct {
	sink
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func (s sink) counter(name, help string, labels ...string) family {
	return family{s, prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil), prometheus.CounterValue}
}

func (s sink) gauge(name, help string, labels ...string) family {
	return family{s, prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil), prometheus.GaugeValue}
}

func put[T int | uint64 | float64](f family, v T, labels ...string) {
	m, err := prometheus.NewConstMetric(f.desc, f.kind, float64(v), labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(f.desc, err)
	}
	f.ch <- m
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s sink) status(st console.Status, healthy bool) {
	put(s.gauge("build_info", "Always 1.", "version"), 1, st.Version)
	put(s.gauge("healthy", "1 while packets are handled as they should be."), truth(healthy))
	put(s.gauge("uptime_seconds", "Time since start."), st.UptimeS)
	put(s.counter("reloads_total", "Reloads of the config file."), st.Reload.Count)
	put(s.counter("reloads_failed_total", "Reloads that were refused; the old config stayed."), st.Reload.Failed)
	put(s.gauge("reload_ok", "1 if the last reload succeeded."), truth(st.Reload.OK))
	flows := s.gauge("flows", "Flow rows by state.", "state")
	put(flows, st.Flows.Watched, console.FlowWatched)
	put(flows, st.Flows.Managed, console.FlowManaged)
	put(flows, st.Flows.Cheated, console.FlowCheated)
	put(flows, st.Flows.LeftAlone, console.FlowLeftAlone)
	if st.Ledger.Kind == "etcd" {
		put(s.gauge("ledger_connected", "1 while boxes that share accounts decide together."), truth(st.Ledger.State == console.LedgerConnected))
	}
	sessions := s.gauge("sessions", "RSVP session rows by state.", "state")
	put(sessions, st.Sessions.Inactive, console.SessionInactive)
	put(sessions, st.Sessions.Path, console.SessionPath)
	put(sessions, st.Sessions.Requested, console.SessionRequested)
	put(sessions, st.Sessions.Reserved, console.SessionReserved)
	put(sessions, st.Sessions.Rejected, console.SessionRejected)
	put(sessions, st.Sessions.Blockaded, console.SessionBlockaded)
}

func (s sink) links(rows []console.LinkRow) {
	up := s.gauge("link_up", "1 if the interface is up.", "link")
	capacity := s.gauge("link_capacity_bits_per_second", "Rate of the link's HTB root.", "link")
	reservable := s.gauge("link_reservable_bits_per_second", "At most this is granted.", "link")
	reserved := s.gauge("link_reserved_bits_per_second", "This is granted.", "link")
	reservations := s.gauge("link_reservations", "Reservations on the link.", "link")
	bytes := s.counter("class_bytes_total", "Bytes sent by HTB classes, by kind of class.", "link", "kind")
	packets := s.counter("class_packets_total", "Packets sent by HTB classes, by kind of class.", "link", "kind")
	drops := s.counter("class_drops_total", "Packets dropped by HTB classes, by kind of class.", "link", "kind")
	backlog := s.gauge("class_backlog_bytes", "Bytes queued in HTB classes, by kind of class.", "link", "kind")
	for _, r := range rows[:min(len(rows), maxLinks)] {
		put(up, truth(r.Up), r.Name)
		put(capacity, r.CapacityBPS, r.Name)
		put(reservable, r.ReservableBPS, r.Name)
		put(reserved, r.ReservedBPS, r.Name)
		put(reservations, r.Reservations, r.Name)
		s.levels(&r)
		s.shared(&r)
		s.dscps(&r)
		kinds := map[string]console.ClassRow{}
		for _, c := range r.Classes {
			k := kinds[c.Kind]
			k.Bytes += c.Bytes
			k.Packets += c.Packets
			k.Drops += c.Drops
			k.Backlog += c.Backlog
			kinds[c.Kind] = k
		}
		for kind, k := range kinds {
			put(bytes, k.Bytes, r.Name, kind)
			put(packets, k.Packets, r.Name, kind)
			put(drops, k.Drops, r.Name, kind)
			put(backlog, k.Backlog, r.Name, kind)
		}
	}
}

// shared tells what all boxes hold of what they share: a link and its levels.
func (s sink) shared(r *console.LinkRow) {
	held := s.gauge("shared_held_bits_per_second", "All boxes hold this of an account that they share.", "link", "level", "account")
	own := s.gauge("shared_own_bits_per_second", "This box holds this of an account that several share.", "link", "level", "account")
	limit := s.gauge("shared_limit_bits_per_second", "At most this is granted of an account that several boxes share.", "link", "level", "account")
	for _, v := range r.Shared {
		put(held, v.HeldBPS, r.Name, v.Level, v.Name)
		put(own, v.OwnBPS, r.Name, v.Level, v.Name)
		put(limit, v.LimitBPS, r.Name, v.Level, v.Name)
	}
}

// levels tells what a link granted to services and of service levels: at most two
// of the former, and as many of the latter as there are code points.
func (s sink) levels(r *console.LinkRow) {
	granted := s.gauge("link_service_granted_bits_per_second", "This is granted to an IntServ service.", "link", "service")
	limit := s.gauge("link_service_limit_bits_per_second", "At most this is granted to an IntServ service; 0 on links that are not shaped.", "link", "service")
	for _, v := range r.Services {
		put(granted, v.GrantedBPS, r.Name, v.Service)
		put(limit, v.LimitBPS, r.Name, v.Service)
	}
	granted = s.gauge("link_level_granted_bits_per_second", "This is granted of a service level.", "link", "level")
	limit = s.gauge("link_level_limit_bits_per_second", "At most this is granted of a service level now; none where nothing limits it.", "link", "level")
	burst := s.gauge("link_level_granted_burst_bytes", "The reservations of a service level may send this at once.", "link", "level")
	burstLimit := s.gauge("link_level_limit_burst_bytes", "At most this may the reservations of a service level send at once; none where nothing limits it.", "link", "level")
	for _, v := range r.Levels {
		put(granted, v.GrantedBPS, r.Name, v.PHB)
		put(burst, v.GrantedBurst, r.Name, v.PHB)
		if v.State != console.LevelNoBounds {
			put(limit, v.LimitBPS, r.Name, v.PHB)
			put(burstLimit, v.LimitBurst, r.Name, v.PHB)
		}
	}
}

// dscps tells what became of packets by their DSCP: two rows for each at most.
func (s sink) dscps(r *console.LinkRow) {
	packets := s.counter("dscp_packets_total", "Packets conditioned by their DSCP, by what became of them; dropped is a part of exceed.", "link", "direction", "dscp", "result")
	bytes := s.counter("dscp_bytes_total", "The same in IP bytes.", "link", "direction", "dscp", "result")
	for _, d := range r.DSCPs {
		for _, c := range []struct {
			result         string
			packets, bytes uint64
		}{
			{"conform", d.ConformPackets, d.ConformBytes}, {"exceed", d.ExceedPackets, d.ExceedBytes}, {"dropped", d.DroppedPackets, d.DroppedBytes},
		} {
			put(packets, c.packets, r.Name, d.Direction, d.PHB, c.result)
			put(bytes, c.bytes, r.Name, d.Direction, d.PHB, c.result)
		}
	}
}

func (s sink) policies(rows []console.PolicyRow) {
	matched := s.counter("policy_matched_total", "Flows that a policy claimed.", "policy")
	flows := s.gauge("policy_flows", "Flow rows of a policy.", "policy")
	reservations := s.gauge("policy_reservations", "Reservations of a policy.", "policy")
	var rest console.PolicyRow
	for i, r := range rows {
		if i >= maxPolicies {
			rest.Matched += r.Matched
			rest.Flows += r.Flows
			rest.Reservations += r.Reservations
			continue
		}
		put(matched, r.Matched, r.Name)
		put(flows, r.Flows, r.Name)
		put(reservations, r.Reservations, r.Name)
	}
	if len(rows) > maxPolicies {
		// A policy's name cannot have a blank: this is none of theirs.
		put(matched, rest.Matched, "all other")
		put(flows, rest.Flows, "all other")
		put(reservations, rest.Reservations, "all other")
	}
}

// topReasons returns the most frequent reasons and the sum of the others.
func topReasons(all map[string]uint64) ([]string, uint64) {
	keys := slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		return cmp.Or(cmp.Compare(all[b], all[a]), cmp.Compare(a, b))
	})
	var rest uint64
	for _, k := range keys[min(len(keys), maxReasons):] {
		rest += all[k]
	}
	return keys[:min(len(keys), maxReasons)], rest
}

func queueLabel(q console.QueueStats) []string {
	return []string{strconv.Itoa(int(q.Queue)), q.Role}
}
