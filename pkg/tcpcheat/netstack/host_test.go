package netstack

import (
	"bytes"
	"fmt"
	"math/rand"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

const (
	nic = 1
	mtu = 1500
)

// tuning is what a schedule chooses of a host.
type tuning struct {
	cc       string // congestion control
	sack     bool
	rack     bool // RFC 8985; else RFC 6675 alone
	gso      bool // super-packets with half a checksum leave the host
	buf      int  // receive buffer
	autotune bool
}

// host is a stack and the one connection that it has.
type host struct {
	w      *world
	name   string
	addr   netip.Addr
	s      *stack.Stack
	link   *channel.Endpoint
	out    func(f frame) // takes what it sends
	timers int           // that are set
	acked  packet.Seq    // highest acknowledgement that came
	taken  packet.Seq    // end of what came in order and within what it has promised
	busy   bool          // something came in, or a timer fired
	drawn  tuning
	app    app
}

func (w *world) newHost(name string, addr netip.Addr, u tuning) *host {
	h := &host{w: w, name: name, addr: addr, drawn: u}
	h.link = channel.New(4096, mtu, "")
	if u.gso {
		h.link.SupportedGSOKind = stack.HostGSOSupported
	}
	h.s = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
		Clock:              &clock{w, h},
		RandSource:         rand.NewSource(w.rng.Int64()),
		SecureRNG:          rand.New(rand.NewSource(w.rng.Int64())),
	})
	h.must(h.s.CreateNIC(nic, h.link))
	proto, all := ipv4.ProtocolNumber, header.IPv4EmptySubnet
	if addr.Is6() {
		proto, all = ipv6.ProtocolNumber, header.IPv6EmptySubnet
	}
	h.must(h.s.AddProtocolAddress(nic, tcpip.ProtocolAddress{
		Protocol: proto, AddressWithPrefix: tcpip.AddrFromSlice(addr.AsSlice()).WithPrefix(),
	}, stack.AddressProperties{}))
	h.s.SetRouteTable([]tcpip.Route{{Destination: all, NIC: nic}})
	recovery := tcpip.TCPRecovery(0)
	if u.rack {
		recovery = tcpip.TCPRACKLossDetection
	}
	sack, cc, auto := tcpip.TCPSACKEnabled(u.sack), tcpip.CongestionControlOption(u.cc), tcpip.TCPModerateReceiveBufferOption(u.autotune)
	rcv := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4096, Default: u.buf, Max: 4 << 20}
	for _, o := range []tcpip.SettableTransportProtocolOption{&recovery, &sack, &cc, &auto, &rcv} {
		h.must(h.s.SetTransportProtocolOption(tcp.ProtocolNumber, o))
	}
	return h
}

func (h *host) must(err tcpip.Error) {
	h.w.t.Helper()
	if err != nil {
		h.w.t.Fatalf("%s: %v", h.name, err)
	}
}

func (h *host) network() tcpip.NetworkProtocolNumber {
	if h.addr.Is6() {
		return ipv6.ProtocolNumber
	}
	return ipv4.ProtocolNumber
}

func (h *host) socket() tcpip.Endpoint {
	ep, err := h.s.NewEndpoint(tcp.ProtocolNumber, h.network(), &waiter.Queue{})
	h.must(err)
	return ep
}

func (h *host) at(port uint16) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFromSlice(h.addr.AsSlice()), Port: port}
}

// receive is a packet from the link.
func (h *host) receive(p []byte) {
	h.busy = true
	// What an unacceptable segment acknowledges is not looked at (RFC 9293 section
	// 3.10.7.4, fifth check after the first).
	if v, err := packet.Parse(p); err == nil && v.TCP().Has(packet.FlagACK) && h.acceptable(v.TCP()) {
		if ack := v.TCP().Ack(); h.acked == 0 || ack.After(h.acked) {
			h.acked = ack
		}
		h.promised(v.TCP())
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(p)})
	h.link.InjectInbound(h.network(), pkt)
	pkt.DecRef()
}

// promised notes what the host is bound to take.
func (h *host) promised(t packet.TCP) {
	said, end := h.said(), t.Seq().Add(len(t.Payload()))
	if !said.any || said.ack == 0 {
		return
	}
	if h.taken == 0 || h.taken.Before(said.ack) {
		h.taken = said.ack
	}
	if t.Seq().AtMost(h.taken) && end.After(h.taken) && end.AtMost(said.edge) {
		h.taken = end
	}
}

// reneged tells whether the host has let go of something that it had promised to
// take, if a while has passed since it came.
func (h *host) reneged() bool { return h.taken != 0 && h.taken.After(h.said().ack) }

// acceptable tells whether a segment is not before what the host expects next.
func (h *host) acceptable(t packet.TCP) bool {
	next := h.said().ack
	return !h.said().any || !t.Seq().Before(next) || t.Seq().Add(t.SegLen()).After(next)
}

// settle has the stack's goroutines work off what came in (Pause returns when
// they have nothing left), then the application, then takes what leaves. It
// tells whether there was anything to do.
func (h *host) settle() bool {
	was := h.busy
	for h.busy {
		h.busy = false
		h.s.Pause()
		h.s.Resume()
		h.busy = h.app.work()
	}
	for pkt := h.link.Read(); pkt != nil; pkt = h.link.Read() {
		was = true
		view := pkt.ToView()
		p := append([]byte(nil), view.AsSlice()...)
		view.Release()
		f := frame{b: p, half: pkt.GSOOptions.Type != stack.GSONone && pkt.GSOOptions.NeedsCsum, mss: int(pkt.GSOOptions.MSS)}
		pkt.DecRef()
		if v, err := packet.Parse(p); err != nil || !v.IsTCP() {
			continue // ICMPv6 of a host that looks for routers
		}
		h.out(f)
	}
	return was
}

// close ends the stack.
func (h *host) close() {
	for _, e := range h.s.RegisteredEndpoints() {
		e.Abort()
	}
	h.s.Pause()
	h.s.Resume()
	h.s.Destroy()
	h.link.Close()
}

// stuck tells of deviations of gVisor's after which a connection stands still
// for ever. No box can help that, so the schedule proves nothing about the engine.
//
//   - RFC 9438 section 4.4 bounds the target of the congestion window from below by
//     the window itself. gVisor's cubic does not (cubicState.getCwnd), so after
//     losses that follow each other a window of a segment or two can become 0.
//   - RFC 6298 section 5.1 has the timer run while something that was sent is not
//     acknowledged. gVisor's does not if it counts nothing as outstanding
//     (sender.postXmit), so the last data or a FIN may be lost and not sent again.
//   - What waits behind a hole counts with all its overhead against the receive buffer
//     (segmentQueue.enqueue). With small segments and a small buffer there is no room
//     left for what fills the hole, and it is dropped although it lies in the window,
//     each time, without an answer (RFC 9293 section 3.10.7.4).
//   - RFC 7323 section 2.4 has a receiver take what was in the window of any ACK that
//     it sent. gVisor's window can shrink by less than a unit of its field, and then it
//     does not: without a copy in the box those bytes are gone.
func (h *host) stuck() bool {
	if h.refused() || h.reneged() {
		return true
	}
	var info tcpip.TCPInfoOption
	if h.app.ep == nil || !h.connected() || h.app.ep.GetSockOpt(&info) != nil {
		return false
	}
	return h.timers == 0 && h.said().max.After(h.acked) || h.drawn.cc == "cubic" && info.SndCwnd == 0
}

// said is what the host has sent.
func (h *host) said() *saying {
	if h == h.w.b {
		return &h.w.checks.b
	}
	return &h.w.checks.a
}

// refused tells whether the stack has dropped a segment for want of memory.
func (h *host) refused() bool {
	if h.app.ep == nil {
		return false
	}
	st, ok := h.app.ep.Stats().(*tcp.Stats)
	return ok && st.ReceiveErrors.SegmentQueueDropped.Value() > 0
}

func (h *host) connected() bool {
	switch tcp.EndpointState(h.app.ep.State()) {
	case tcp.StateEstablished, tcp.StateCloseWait, tcp.StateFinWait1, tcp.StateLastAck, tcp.StateClosing:
		return true
	default:
		return false
	}
}

// app is the program at one end. It reads what comes, writes what it has, and
// closes its direction when it is told to.
type app struct {
	h        *host
	listener tcpip.Endpoint
	ep       tcpip.Endpoint

	send     []byte // all that it has to say
	sent     int
	chunk    int           // of one write
	think    time.Duration // between two writes
	resting  bool          // until the next write
	want     []byte        // what it has to get
	wrong    func(off int, got []byte)
	got      int
	readRate float64 // bytes/s; 0: as it comes
	paused   bool    // it does not read
	allowed  int     // bytes it may read by its rate
	reading  bool    // a wake-up for it is on its way

	closeAfterPeer bool // it closes its direction when the other is closed
	shut           bool // it has closed its direction
	eof            bool // the other direction is closed
	closed         bool
	err            tcpip.Error // of reading or writing
	last           time.Duration
}

// work does what can be done now, and tells whether it did something.
func (p *app) work() bool {
	if p.ep == nil {
		return p.accept()
	}
	if p.err != nil || p.closed {
		return false
	}
	did := p.write()
	if p.read() {
		did = true
	}
	if p.err != nil {
		p.ep.Close()
		return true
	}
	if !p.shut && p.sent == len(p.send) && (p.eof || !p.closeAfterPeer) && tcp.EndpointState(p.ep.State()) != tcp.StateSynSent {
		p.shut, did = true, true
		if err := p.ep.Shutdown(tcpip.ShutdownWrite); err != nil {
			p.fail(err)
		}
	}
	if p.shut && p.eof {
		p.closed, did = true, true
		p.ep.Close()
	}
	return did
}

func (p *app) accept() bool {
	if p.listener == nil {
		return false
	}
	ep, _, err := p.listener.Accept(nil)
	if err != nil {
		return false
	}
	p.ep = ep
	p.listener.Close()
	p.listener = nil
	return true
}

func (p *app) fail(err tcpip.Error) {
	if p.err == nil {
		p.err = err
	}
}

func (p *app) write() (did bool) {
	for p.sent < len(p.send) && !p.resting {
		end := min(p.sent+p.chunk, len(p.send))
		n, err := p.ep.Write(bytes.NewReader(p.send[p.sent:end]), tcpip.WriteOptions{})
		switch err.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			return did
		case *tcpip.ErrConnectStarted, *tcpip.ErrNotConnected:
			return did
		default:
			p.fail(err)
			return did
		}
		did = true
		p.sent += int(n)
		p.last = p.h.w.now
		if p.think > 0 {
			p.resting = true
			p.h.w.after(p.think, func() { p.resting, p.h.busy = false, true })
		}
	}
	return did
}

func (p *app) read() (did bool) {
	for !p.paused && !p.eof {
		room := 1 << 20
		if p.readRate > 0 {
			if room = p.allowed; room <= 0 {
				p.wakeReader()
				return did
			}
		}
		var b bytes.Buffer
		res, err := p.ep.Read(&tcpip.LimitedWriter{W: &b, N: int64(room)}, tcpip.ReadOptions{})
		switch err.(type) {
		case nil:
		case *tcpip.ErrWouldBlock, *tcpip.ErrNotConnected:
			return did
		case *tcpip.ErrClosedForReceive:
			p.eof, p.last = true, p.h.w.now
			return true
		default:
			p.fail(err)
			return did
		}
		did = true
		if got := b.Bytes(); p.got+len(got) > len(p.want) {
			p.h.w.fail("%s got %d bytes more than were sent", p.h.name, p.got+len(got)-len(p.want))
		} else if !bytes.Equal(got, p.want[p.got:p.got+len(got)]) {
			p.wrong(p.got, got)
		}
		p.got += res.Count
		p.allowed -= res.Count
		p.last = p.h.w.now
		p.ep.ModerateRecvBuf(res.Count)
	}
	return did
}

// readerTick is how often a slow reader reads.
const readerTick = 20 * time.Millisecond

func (p *app) wakeReader() {
	if p.reading {
		return
	}
	p.reading = true
	p.h.w.after(readerTick, func() {
		p.reading, p.h.busy = false, true
		p.allowed = min(p.allowed, 0) + max(int(p.readRate*readerTick.Seconds()), 1)
	})
}

// reset has the program give up: its connection is reset.
func (p *app) reset() {
	if p.ep == nil || p.closed || p.err != nil {
		return
	}
	p.closed, p.h.busy = true, true
	p.ep.Abort()
}

// gone tells whether the stack has nothing to do for the connection any more.
func (p *app) gone() bool {
	if p.ep == nil {
		return false
	}
	switch tcp.EndpointState(p.ep.State()) {
	case tcp.StateClose, tcp.StateError, tcp.StateTimeWait:
		return true
	case tcp.StateFinWait2:
		// A deviation of gVisor's from RFC 9293 section 3.6: a FIN that is sent again
		// in LAST-ACK or CLOSING puts the connection into FIN-WAIT-1
		// (sender.maybeSendSegment), and its acknowledgement into FIN-WAIT-2, where it
		// waits a minute for a FIN that it has.
		return p.closed && p.eof
	case tcp.StateClosing:
		// Another from section 3.10.7.4: whether its own FIN is acknowledged it takes
		// from the other FIN's segment alone (receiver.consumeSegment). If an
		// acknowledgement that overtook that one has told it already, it waits in
		// CLOSING for ever, and its peer, which owes it nothing, is gone.
		return p.closed && p.eof && !p.h.said().max.After(p.h.acked)
	default:
		return false
	}
}

// over tells whether the program is done with its connection, in order or not.
func (p *app) over() bool { return p.ep != nil && (p.closed || p.err != nil) && p.gone() }

// keepalive has a stack find out that its peer is gone (RFC 9293 section 3.8.4).
func (h *host) keepalive() {
	p := &h.app
	if p.ep == nil || p.closed || p.err != nil {
		return
	}
	p.ep.SocketOptions().SetKeepAlive(true)
	idle, every := tcpip.KeepaliveIdleOption(5*time.Second), tcpip.KeepaliveIntervalOption(5*time.Second)
	h.must(p.ep.SetSockOpt(&idle))
	h.must(p.ep.SetSockOpt(&every))
	h.busy = true
}

func (p *app) String() string {
	state := "has no connection"
	if p.ep != nil {
		state = "is in state " + tcp.EndpointState(p.ep.State()).String()
	}
	return fmt.Sprintf("%s, sent %d of %d and got %d of %d, closed its direction %v, the other is closed %v, done %v, error %v",
		state, p.sent, len(p.send), p.got, len(p.want), p.shut, p.eof, p.closed, p.err)
}
