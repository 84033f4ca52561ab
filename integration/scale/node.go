package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/heap"
	"github.com/qosproxy/qosproxy/pkg/inject"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/nfq"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/reliable"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/route"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/softstate"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
	"github.com/qosproxy/qosproxy/pkg/shaper/nft"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// nodeSetup says what a node is.
type nodeSetup struct {
	Hosts    string   // interface towards the hosts, "" at X
	Network  []string // interfaces towards other nodes
	Sessions int
	Reliable bool
	Refresh  time.Duration
	Treat    bool   // reservations are put into the kernel
	Profile  string // file for a processor profile; "": none
}

// The numbers of the one queue, and of the queues that no rule leads to here.
const (
	controlQueue = 100
	unusedQueue  = 101
	cheatQueue   = 102
)

// beatEvery renews the guard of the queue rule, which lives for 1 s.
const beatEvery = 250 * time.Millisecond

// tspec is what every sender announces: a telephone call.
var tspec = intserv.TSpec{Rate: 10_000, Bucket: 400, Peak: 20_000, MinUnit: 64, MaxPacket: 400}

// node is a process that is G, X or S.
type node struct {
	setup  nodeSetup
	ifaces []rsvpproxy.Interface
	proxy  *rsvpproxy.Proxy
	queue  *nfq.Queue
	table  *nft.QueueTable
	send   *inject.Sender
	treat  *treatments

	mu    sync.Mutex
	wait  map[wire.Filter]time.Time // set-ups under way
	took  []time.Duration
	ready chan struct{} // one for each set-up that ended
}

// runNode is the life of a node process: args are the path of its requests and
// its nodeSetup.
func runNode(args []string) (err error) {
	if len(args) != 2 {
		return errors.New("wants the path of its requests, and what it is")
	}
	n := &node{wait: map[wire.Filter]time.Time{}}
	if err := json.Unmarshal([]byte(args[1]), &n.setup); err != nil {
		return err
	}
	n.ready = make(chan struct{}, n.setup.Sessions)
	// Sockets are opened by threads of this process, all in its namespace.
	if err := n.open(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if n.setup.Profile != "" {
		stop, err := profile(n.setup.Profile)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	go n.beat(ctx)
	go func() { _ = n.queue.Run(ctx) }() // ends with ctx; its errors are counted
	go func() { _ = n.proxy.Run(ctx) }()
	return n.serve(args[0])
}

func (n *node) open() error {
	var err error
	if n.send, err = inject.New(inject.Config{Mark: plan.DefaultMark}); err != nil {
		return err
	}
	if err := n.links(); err != nil {
		return err
	}
	if n.treat, err = newTreatments(n.setup); err != nil {
		return err
	}
	n.proxy = rsvpproxy.New(rsvpproxy.Config{
		Node: softstate.Config{
			Refresh: n.setup.Refresh,
			Limits:  softstate.Limits{Sessions: 2 * n.setup.Sessions},
		},
		Control: 48, Reliable: n.setup.Reliable, FollowRoutes: true,
		Reduction: reliable.Config{Limits: reliable.Limits{Sent: 4 * n.setup.Sessions, Received: 4 * n.setup.Sessions}},
	}, rsvpproxy.Hooks{
		Traffic: n.treat, Send: n.send, ReceiverProxy: n.answer, Event: n.event, Log: zap.NewNop(),
	})
	n.proxy.SetInterfaces(n.ifaces)
	n.queue, err = nfq.Open(nfq.Config{Num: controlQueue, GSO: true, FailOpen: true, Handler: &handler{proxy: n.proxy}})
	if err != nil {
		return err
	}
	n.table, err = nft.Open(plan.Queue{
		Control: controlQueue, First: unusedQueue, Cheat: []uint16{cheatQueue},
		Mark: plan.DefaultMark, MarkMask: plan.DefaultMarkMask, HasIPv6: true, Reassemble: true,
	}.WithDefaults())
	if err != nil {
		return err
	}
	return n.table.Beat()
}

func (n *node) links() error {
	add := func(name string, hosts bool) error {
		l, err := route.ByName(name)
		n.ifaces = append(n.ifaces, rsvpproxy.Interface{Link: l, Hosts: hosts, Discover: hosts, Bandwidth: 1e9})
		return err
	}
	for _, name := range n.setup.Network {
		if err := add(name, false); err != nil {
			return err
		}
	}
	if n.setup.Hosts != "" {
		return add(n.setup.Hosts, true)
	}
	return nil
}

func (n *node) close() error {
	return errors.Join(n.table.Close(), n.queue.Close(), n.treat.close(), n.send.Close())
}

func (n *node) beat(ctx context.Context) {
	t := time.NewTicker(beatEvery)
	defer t.Stop()
	var tuner heap.Tuner // as in the daemon
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		tuner.Tune()
		if err := n.table.Beat(); err != nil {
			fmt.Fprintln(os.Stderr, "scale node: the queue rule was not renewed:", err)
		}
	}
}

// serve answers requests until they end.
func (n *node) serve(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // was only read
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(reply{}); err != nil {
		return err
	}
	in := bufio.NewScanner(f)
	for in.Scan() {
		var q request
		r := reply{}
		err := json.Unmarshal(in.Bytes(), &q)
		if err == nil {
			switch q.Verb {
			case verbAdd:
				r, err = n.add(q)
			case verbFigures:
				r.Figures, err = n.figures()
			case verbEnd:
			default:
				err = fmt.Errorf("unknown verb %q", q.Verb)
			}
		}
		if err != nil {
			r.Error = err.Error()
		}
		if err := out.Encode(r); err != nil {
			return err
		}
		if q.Verb == verbEnd {
			return nil
		}
	}
	return in.Err()
}

// answer is the receiver proxy of S.
func (n *node) answer(i softstate.PathInfo) (softstate.ReserveSpec, bool) {
	return softstate.ReserveSpec{Style: wire.FF, FlowSpec: intserv.FlowSpec{Service: intserv.ControlledLoad, TSpec: tspec}}, n.hosts(int(i.Out))
}

// hosts says whether an interface is towards the hosts.
func (n *node) hosts(index int) bool {
	for _, i := range n.ifaces {
		if i.Index == index {
			return i.Hosts
		}
	}
	return false
}

// event notes at G that a reservation stands.
func (n *node) event(e softstate.Event) {
	if e.State != softstate.Reserved {
		return
	}
	n.mu.Lock()
	at, waits := n.wait[e.Sender]
	delete(n.wait, e.Sender)
	if waits {
		n.took = append(n.took, time.Since(at))
	}
	n.mu.Unlock()
	if waits {
		n.ready <- struct{}{}
	}
}

// sender number i: 60,000 ports each of as many hosts as it takes.
func (n *node) sender(i int) softstate.Sender {
	port := uint16(1024 + i%60_000)
	src := netip.AddrFrom4([4]byte{10, 1, 1, byte(i / 60_000)})
	dst := netip.AddrFrom4([4]byte{10, 2, 1 + byte(i/250%200), byte(1 + i%250)})
	return softstate.Sender{
		Session: wire.Session{Dst: dst, Protocol: 17, DstPort: port},
		Filter:  wire.Filter{Src: src, SrcPort: port},
		TSpec:   tspec, In: softstate.IfIndex(n.ifaces[len(n.ifaces)-1].Index),
	}
}

// slowest bounds the wait for one set-up.
const slowest = 2 * time.Minute

// add sets sessions up, at a rate or as many at once as the window has room
// for, and waits for all of them.
func (n *node) add(q request) (reply, error) {
	n.mu.Lock()
	n.took = nil
	n.mu.Unlock()
	begin := time.Now()
	flying, refused := 0, make(chan error, 1)
	take := func() error {
		select {
		case <-n.ready:
			flying--
			return nil
		case err := <-refused:
			return err
		case <-time.After(slowest):
			return fmt.Errorf("%d set-ups did not end within %s", flying, slowest)
		}
	}
	for i := range q.Count {
		if q.Rate > 0 {
			time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(q.Rate))))
		}
		for q.Window > 0 && flying >= q.Window {
			if err := take(); err != nil {
				return reply{}, err
			}
		}
		s := n.sender(q.First + i)
		n.mu.Lock()
		n.wait[s.Filter] = time.Now()
		n.mu.Unlock()
		flying++
		err := n.proxy.AddSender(s, func(err error) {
			select {
			case refused <- err:
			default: // one is enough to tell
			}
		})
		if err != nil {
			return reply{}, err
		}
	}
	for flying > 0 {
		if err := take(); err != nil {
			return reply{}, err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	slices.Sort(n.took)
	return reply{Elapsed: time.Since(begin), Latency: n.took}, nil
}

func (n *node) figures() (f figures, err error) {
	f.Asked = time.Now()
	if f.AskedCPU, err = cpu(); err != nil {
		return f, err
	}
	v, err := n.proxy.View()
	if err != nil {
		return f, err
	}
	f.Reservations, f.Treat = v.Counters.Reservations, n.treat.times()
	for t := range v.Counters.In {
		f.In += v.Counters.In[t]
		f.Out += v.Counters.Out[t]
	}
	for _, d := range v.Counters.Dropped {
		f.Lost += d
	}
	f.Why = fmt.Sprintf("%+v %+v %+v", v.Counters, n.proxy.CaptureCounters(), n.proxy.SendCounters())
	v = rsvpproxy.View{} // its rows are no state of the protocol's
	sent, taken := n.proxy.SendCounters(), n.proxy.CaptureCounters()
	f.Datagrams, f.Captured = sent.Sent, taken.Taken
	f.Lost += sent.Errors + taken.Limited + taken.Overflow + taken.Malformed
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	f.Heap = m.HeapAlloc
	if f.Resident, err = resident(); err != nil {
		return f, err
	}
	f.CPU, err = cpu()
	f.At = time.Now()
	return f, err
}
