package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// listenTCP opens a listener inside a namespace. Multipath TCP, Go's default
// for listeners, is off: it would change the options of the handshake.
func listenTCP(ctx context.Context, ns *netns.NetNS, addr netip.AddrPort, cc string) (*net.TCPListener, error) {
	config := net.ListenConfig{Control: congestionControl(cc)}
	config.SetMultipathTCP(false)
	var listener *net.TCPListener
	err := ns.Do(func() error {
		l, err := config.Listen(ctx, "tcp", addr.String())
		if err != nil {
			return err
		}
		listener = l.(*net.TCPListener)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("tcp sink in %s: %w", ns.Name(), err)
	}
	return listener, nil
}

// dialTCP connects from inside a namespace. Dialling one literal address makes
// its socket on the calling thread.
func dialTCP(ctx context.Context, ns *netns.NetNS, local, remote netip.AddrPort, cc string) (*net.TCPConn, error) {
	dialer := net.Dialer{Control: congestionControl(cc), Timeout: time.Minute}
	dialer.SetMultipathTCP(false)
	if local.IsValid() {
		dialer.LocalAddr = net.TCPAddrFromAddrPort(local)
	}
	var conn *net.TCPConn
	err := ns.Do(func() error {
		c, err := dialer.DialContext(ctx, "tcp", remote.String())
		if err != nil {
			return err
		}
		conn = c.(*net.TCPConn)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("tcp source in %s: %w", ns.Name(), err)
	}
	return conn, nil
}

// congestionControl returns a control function that sets TCP_CONGESTION, if a
// name is given.
func congestionControl(name string) func(string, string, syscall.RawConn) error {
	if name == "" {
		return nil
	}
	return func(_, _ string, raw syscall.RawConn) error {
		var err error
		controlErr := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, name)
		})
		if err = errors.Join(controlErr, err); err != nil {
			return fmt.Errorf("congestion control %s: %w", name, err)
		}
		return nil
	}
}

// TCPInfo is what the kernel says about a connection at the sender's side.
type TCPInfo struct {
	CongestionControl string        `json:"congestion_control"`
	Retransmits       uint32        `json:"retransmits"` // segments, in all
	RetransmitBytes   uint64        `json:"retransmit_bytes"`
	RTT               time.Duration `json:"rtt_ns"` // smoothed
	MinRTT            time.Duration `json:"min_rtt_ns"`
	Cwnd              uint32        `json:"cwnd"` // segments
	MSS               uint32        `json:"mss"`
	DeliveryRate      uint64        `json:"delivery_rate"` // bytes per second
	BytesAcked        uint64        `json:"bytes_acked"`
	SendWindowLimited time.Duration `json:"rwnd_limited_ns"` // time spent limited by the receiver's window
}

// readTCPInfo asks the kernel.
func readTCPInfo(conn *net.TCPConn) (TCPInfo, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return TCPInfo{}, fmt.Errorf("tcp info: %w", err)
	}
	var info *unix.TCPInfo
	var cc string
	controlErr := raw.Control(func(fd uintptr) {
		if info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			cc, err = unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
		}
	})
	if err := errors.Join(controlErr, err); err != nil {
		return TCPInfo{}, fmt.Errorf("tcp info: %w", err)
	}
	micro := func(n uint32) time.Duration { return time.Duration(n) * time.Microsecond }
	return TCPInfo{
		CongestionControl: cc,
		Retransmits:       info.Total_retrans,
		RetransmitBytes:   info.Bytes_retrans,
		RTT:               micro(info.Rtt),
		MinRTT:            micro(info.Min_rtt),
		Cwnd:              info.Snd_cwnd,
		MSS:               info.Snd_mss,
		DeliveryRate:      info.Delivery_rate,
		BytesAcked:        info.Bytes_acked,
		SendWindowLimited: time.Duration(info.Rwnd_limited) * time.Microsecond,
	}, nil
}
