package traffic

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// udpHeaders is the length of the IPv4 and UDP headers, bytes.
const udpHeaders = 28

// maxPackets bounds a stream, and with it the record of what arrived (8 MB).
const maxPackets = 1 << 26

// StreamConfig describes evenly paced UDP packets from one namespace to another.
type StreamConfig struct {
	From, To *netns.NetNS
	Local    netip.AddrPort // optional
	Remote   netip.AddrPort // of the sink; port 0 lets the kernel choose
	Payload  int            // bytes per packet, at least 24
	Interval time.Duration  // between packets
	Duration time.Duration  // of sending
	// Until, if not nil, ends the sending before that when it is closed; what was sent
	// is waited for as ever.
	Until <-chan struct{}
	// Warmup leaves out of all figures what is sent before it.
	Warmup time.Duration
	// Drain is how long to wait for packets after the last one was sent,
	// 0 is one second. It ends early when all arrived.
	Drain time.Duration
	// Train is how many packets are sent at once, Interval from train to train; 0
	// is one.
	Train int
	// Scatter sends each packet (or train) at a random time within its interval. Sources
	// in step with each other and with a queue would otherwise decide by their
	// phase who loses.
	Scatter bool
	// TOS is the IPv4 type-of-service byte (DSCP << 2).
	TOS int
}

// Voice returns the stream of a G.711 call: 160 bytes of payload every 20 ms,
// which is 64 kbit/s of payload and 75.2 kbit/s of IPv4 packets. (RTP's header of 12
// bytes, 80 kbit/s then, is not sent; raise Payload to 172 to count it.)
func Voice(from, to *netns.NetNS, remote netip.AddrPort, d time.Duration) StreamConfig {
	return StreamConfig{
		From: from, To: to, Remote: remote,
		Payload: 160, Interval: 20 * time.Millisecond, Duration: d, Drain: 3 * time.Second,
	}
}

// Flood returns a stream of 1,500-byte IPv4 packets with so many bit/s of IP bytes.
func Flood(from, to *netns.NetNS, remote netip.AddrPort, rate int64, d time.Duration) StreamConfig {
	const size = 1500
	return StreamConfig{
		From: from, To: to, Remote: remote,
		Payload:  size - udpHeaders,
		Interval: time.Duration(size * 8 * int64(time.Second) / max(rate, 1)),
		Duration: d,
		Scatter:  true,
	}
}

// StreamResult is what both ends saw of a stream after the warm-up.
type StreamResult struct {
	Sent        int64         `json:"sent"`
	SendErrors  int64         `json:"send_errors"` // packets the local stack refused
	Received    int64         `json:"received"`    // without duplicates
	Lost        int64         `json:"lost"`
	Duplicates  int64         `json:"duplicates"`
	Reordered   int64         `json:"reordered"`       // arrived after one with a higher number
	Delay       Distribution  `json:"delay"`           // one way, to the receiver's kernel
	Jitter      time.Duration `json:"jitter_ns"`       // RFC 3550 6.4.1, at the end
	MaxJitter   time.Duration `json:"max_jitter_ns"`   // the largest it was
	PayloadRate float64       `json:"payload_bps"`     // as received, from the first packet to the last
	IPRate      float64       `json:"ip_bps"`          // as received
	SendRate    float64       `json:"ip_sent_bps"`     // IP rate as sent
	MaxSendLag  time.Duration `json:"max_send_lag_ns"` // the source's own lateness
}

// LossRatio is the share of sent packets that did not arrive.
func (r StreamResult) LossRatio() float64 {
	if r.Sent == 0 {
		return 0
	}
	return float64(r.Lost) / float64(r.Sent)
}

func (cfg StreamConfig) validate() error {
	switch {
	case cfg.Payload < probeSize:
		return fmt.Errorf("stream: payload of %d bytes, at least %d needed", cfg.Payload, probeSize)
	case cfg.Interval <= 0 || cfg.Duration <= 0:
		return errors.New("stream: interval and duration must be positive")
	case cfg.Train < 0 || int64(cfg.Duration/cfg.Interval) >= maxPackets/int64(cfg.train()):
		return errors.New("stream: too many packets")
	}
	return nil
}

// first returns the number of the first packet that counts.
func (cfg StreamConfig) first() uint64 {
	return uint64((cfg.Warmup+cfg.Interval-1)/cfg.Interval) * uint64(cfg.train())
}

func (cfg StreamConfig) train() int { return max(1, cfg.Train) }

// Stream sends and receives, and returns when both ends are done. That the
// context ends is not an error: the result then is what was sent until then.
func Stream(ctx context.Context, cfg StreamConfig) (StreamResult, error) {
	if err := cfg.validate(); err != nil {
		return StreamResult{}, err
	}
	if cfg.Drain == 0 {
		cfg.Drain = time.Second
	}
	sink, err := listenStream(ctx, cfg)
	if err != nil {
		return StreamResult{}, err
	}
	received := make(chan error, 1)
	go func() { received <- sink.receive() }()
	sending, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-cfg.Until:
			stop()
		case <-sending.Done():
		}
	}()
	sent, sendErr := sendStream(sending, cfg, sink.addr())
	sink.finish(ctx, sent.packets, cfg.Drain)
	receiveErr := <-received
	return sink.result(sent), errors.Join(sendErr, receiveErr)
}
