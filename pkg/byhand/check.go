package byhand

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/qosproxy/qosproxy/pkg/dscp"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/packet"
)

// Bounds of a reservation: what is beyond them is a mistake and not a wish.
const (
	MaxRate    = 125e9   // bytes/s: 1000gbit
	MaxBurst   = 1 << 30 // bytes
	MaxPacket  = 65535   // bytes, the IPv4 total length field
	MaxOwner   = 64      // bytes
	MaxComment = 256     // bytes
)

// Check tells everything that is wrong with a reservation, one sentence each;
// nil if it can be asked for.
func (r *Reservation) Check() error {
	return errors.Join(append(slices.Concat(r.checkFlow(), r.checkTSpec(), r.checkWords()), r.checkText("owner", r.Owner, MaxOwner),
		r.checkText("comment", r.Comment, MaxComment))...)
}

func (r *Reservation) checkFlow() (errs []error) {
	src, dst := r.Flow.SrcAddr(), r.Flow.DstAddr()
	for _, a := range []struct {
		key  string
		addr netip.Addr
	}{{"src", src}, {"dst", dst}} {
		switch {
		case !a.addr.IsValid() || a.addr.IsUnspecified():
			errs = append(errs, fmt.Errorf("%s: give the address of a host", a.key))
		case a.key == "src" && a.addr.IsMulticast():
			errs = append(errs, fmt.Errorf("src: %s is a group: give the address of the host that sends to it", a.addr))
		case a.addr.IsLinkLocalMulticast() || a.addr.IsInterfaceLocalMulticast(): // RFC 5771 section 4, RFC 4291 section 2.7
			errs = append(errs, fmt.Errorf("dst: %s is a group of one link, whose packets no box forwards", a.addr))
		case a.addr.IsLoopback() || a.addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			errs = append(errs, fmt.Errorf("%s: %s is no host's address", a.key, a.addr))
		}
	}
	if src.Is4() != dst.Is4() {
		errs = append(errs, errors.New("src and dst are of different IP versions"))
	} else if src == dst {
		errs = append(errs, errors.New("src and dst are the same host"))
	}
	if dst.IsMulticast() && r.Flow.Proto == packet.ProtoTCP {
		return append(errs, fmt.Errorf("protocol: tcp connects two hosts, and dst %s is a group: give udp, or the protocol of its data", dst))
	}
	switch p := r.Flow.Proto; p {
	case packet.ProtoTCP, packet.ProtoUDP:
		if r.Flow.SrcPort == 0 || r.Flow.DstPort == 0 {
			errs = append(errs, fmt.Errorf("sport and dport: a %s flow has both, from 1 to 65535", packet.ProtoName(p)))
		}
	case 0, packet.ProtoRSVP, packet.ProtoRSVPE2E:
		errs = append(errs, errors.New("protocol: give tcp, udp, or the number of a protocol that carries data"))
	default:
		if r.Flow.SrcPort != 0 || r.Flow.DstPort != 0 {
			errs = append(errs, fmt.Errorf("protocol %s has no ports: leave sport and dport out", packet.ProtoName(p)))
		}
	}
	return errs
}

// checkTSpec holds a TSpec to what a policy's is held to: the ranges of RFC 2215
// section 3.6, and beyond it p not below r, b not below M.
func (r *Reservation) checkTSpec() (errs []error) {
	t := r.TSpec
	if err := t.Validate(); err != nil {
		return []error{err}
	}
	for _, v := range []struct {
		bad  bool
		text string
	}{
		{t.Rate > MaxRate, "rate: at most 1000gbit"},
		{t.Bucket > MaxBurst, "burst: at most 1024MiB"},
		{t.Peak < t.Rate, "peak is below rate: raise it, or leave it out where only the link limits it"},
		{t.MinUnit == 0 || t.MaxPacket == 0 || t.MaxPacket > MaxPacket, "min_unit and max_packet: from 1B to 65535B"},
		{t.Bucket < float64(t.MaxPacket), fmt.Sprintf("burst is smaller than max_packet (%dB), so that no such packet could ever conform: raise burst or lower max_packet", t.MaxPacket)},
	} {
		if v.bad {
			errs = append(errs, errors.New(v.text))
		}
	}
	return errs
}

func (r *Reservation) checkWords() (errs []error) {
	add := func(bad bool, text string) {
		if bad {
			errs = append(errs, errors.New(text))
		}
	}
	add(!slices.Contains([]Side{Both, Sender, Receiver}, r.Side), "side: sender, receiver or both")
	add(!slices.Contains([]Style{Auto, Fixed, Explicit, Wildcard}, r.Style), "style: auto, ff, se or wf")
	add(!slices.Contains([]TCP{TCPNone, TCPRealtime, TCPReliable}, r.TCP), "tcp: none, realtime or reliable")
	add(r.TCP != TCPNone && r.Flow.Proto != packet.ProtoTCP, "tcp: the flow is no TCP connection: leave it out")
	add(!r.Service.Requestable(), "service: controlled-load or guaranteed")
	add(r.Delay < 0, "delay: negative")
	add(r.Delay != 0 && r.Service != intserv.Guaranteed, "delay is kept by guaranteed service only: write service guaranteed, or leave delay out")
	add(r.Delay == 0 && r.Service == intserv.Guaranteed, "guaranteed service keeps a delay: give it, such as 50ms")
	add(!r.Given && r.Priority != (Priority{}), "priority: not given, and yet there")
	add(r.DSCP > dscp.Max, "mark: a PHB name or a number from 0 to 63")
	add(r.Excess > dscp.Max, "excess: best-effort, drop, or a PHB")
	add(r.Drop && r.Excess != 0, "excess: what is dropped has no PHB")
	add(r.Hold < r.Setup, "priority: hold is below setup, so that flows would push each other out in turn: raise hold or lower setup") // RFC 3181 section 4
	add(!r.Expires.IsZero() && !r.Expires.After(r.Made), "expires is not in the future")
	return errs
}

func (r *Reservation) checkText(key, s string, most int) error {
	switch {
	case len(s) > most:
		return fmt.Errorf("%s: at most %d bytes", key, most)
	case !utf8.ValidString(s):
		return fmt.Errorf("%s is not UTF-8", key)
	}
	for _, c := range s {
		if !unicode.IsPrint(c) {
			return fmt.Errorf("%s: printable characters only", key)
		}
	}
	return nil
}
