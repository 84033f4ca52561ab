package rig

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/integration/rig/wire"
)

// The scenario's trouble, without any help: a flood beside A's voice stream,
// and bulk traffic of D in the way of B's answers.
func TestAsymmetricTopologyWithoutHelp(t *testing.T) {
	var recorded bytes.Buffer
	pcap, err := wire.NewPcap(&recorded)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Asymmetric(7)
	cfg.Taps.Enter = [2]*wire.Pcap{pcap, pcap}
	top := newTopology(t, cfg)
	ctx := deadline(t, 30*time.Second)

	quiet, err := traffic.Stream(ctx, warm(traffic.Voice(top.A, top.B, at(AddrB), 1500*time.Millisecond)))
	if err != nil {
		t.Fatal(err)
	}
	if quiet.Lost != 0 || quiet.Delay.P50 > 52*time.Millisecond || quiet.Delay.Min < 50*time.Millisecond {
		t.Errorf("voice on the quiet network: %+v", quiet)
	}
	probe := traffic.LatencyConfig{From: top.A, To: top.B, Remote: at(AddrB), Duration: 6 * time.Second}
	var loaded traffic.StreamResult
	var latency traffic.LatencyResult
	var bulk traffic.BulkResult
	err = together(
		func() error {
			_, err := traffic.Stream(ctx, traffic.Flood(top.C, top.B, at(AddrB), 30_000_000, 6*time.Second))
			return err
		},
		func() (err error) {
			bulk, err = traffic.Bulk(ctx, traffic.BulkConfig{
				From: top.D, To: top.C, Remote: at(AddrC), CongestionControl: "cubic", Seed: 1, Duration: 6 * time.Second,
			})
			return err
		},
		func() (err error) {
			loaded, err = traffic.Stream(ctx, warm(traffic.Voice(top.A, top.B, at(AddrB), 5*time.Second)))
			return err
		},
		func() (err error) {
			time.Sleep(100 * time.Millisecond)
			latency, err = traffic.Latency(ctx, probe)
			return err
		},
	)
	if err != nil {
		t.Fatal(err)
	}
	if loaded.LossRatio() < 0.1 || loaded.Delay.P50 < 120*time.Millisecond {
		t.Errorf("the flood does not hurt: %+v", loaded)
	}
	if bulk.Sink.Bytes == 0 || !bulk.Sink.Intact() {
		t.Errorf("bulk from D to C: %+v", bulk)
	}
	back := top.WAN.Counters(wire.BA)
	if back.MaxQueueDelay < time.Second {
		t.Errorf("the ACK path waits at most %s, want 2 s", back.MaxQueueDelay)
	}
	t.Logf("quiet %+v", quiet)
	t.Logf("loaded %+v, latency %+v, ACK path %+v", loaded, latency.Times, back)
	checkTrust(t, top.WAN)

	if err := errors.Join(top.Close(), pcap.Close()); err != nil {
		t.Fatal(err)
	}
	seen := readPcap(t, &recorded)
	entered := top.WAN.Counters(wire.AB).Frames + back.Frames
	if got := uint64(seen) + pcap.Omitted(); got < entered {
		t.Errorf("%d frames recorded of %d", got, entered)
	}
}

// warm leaves out of the figures the time in which the queues fill.
func warm(cfg traffic.StreamConfig) traffic.StreamConfig {
	cfg.Warmup = 500 * time.Millisecond
	return cfg
}

// together runs all at once and returns their errors.
func together(parts ...func() error) error {
	results := make(chan error, len(parts))
	for _, part := range parts {
		go func() { results <- part() }()
	}
	var errs []error
	for range parts {
		errs = append(errs, <-results)
	}
	return errors.Join(errs...)
}

// readPcap counts the frames of a file, checks that each is a packet no larger
// than the MTU with a right checksum, and that times never go back by more
// than the two directions' threads can.
func readPcap(t *testing.T, r io.Reader) int {
	t.Helper()
	file, err := pcapgo.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for {
		data, _, err := file.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return count
		}
		if err != nil {
			t.Fatal(err)
		}
		count++
		if len(data) > 1514 {
			t.Fatalf("frame %d has %d bytes", count, len(data))
		}
		checkChecksum(t, count, data)
	}
}

func checkChecksum(t *testing.T, number int, data []byte) {
	t.Helper()
	packet := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.Default)
	ip, isIP := packet.NetworkLayer().(*layers.IPv4)
	if !isIP {
		return
	}
	sum := pseudoHeader(ip)
	for i, b := range ip.Payload[:min(len(ip.Payload), int(ip.Length)-int(ip.IHL)*4)] {
		sum += uint32(b) << (8 * (1 - i&1))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	if sum != 0xffff && (ip.Protocol == layers.IPProtocolTCP || ip.Protocol == layers.IPProtocolUDP) {
		t.Fatalf("frame %d has a wrong checksum: %v", number, packet)
	}
}

func pseudoHeader(ip *layers.IPv4) uint32 {
	var sum uint32
	for _, b := range [][]byte{ip.SrcIP.To4(), ip.DstIP.To4()} {
		sum += uint32(b[0])<<8 + uint32(b[1]) + uint32(b[2])<<8 + uint32(b[3])
	}
	return sum + uint32(ip.Protocol) + uint32(len(ip.Payload))
}

func TestRawPacketsAreCaptured(t *testing.T) {
	top := newTopology(t, wire.Config{})
	isRSVP := func(frame []byte) bool { return len(frame) > 34 && frame[12] == 8 && frame[13] == 0 && frame[23] == 46 }
	capture, err := traffic.StartCapture(top.Box2, WANIface, isRSVP)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := traffic.OpenRaw(top.Box1)
	if err != nil {
		t.Fatal(err)
	}
	// From host A's address, as a proxy would.
	packet := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 63, 46, 0, 0, 10, 1, 0, 2, 10, 2, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8}
	if err := raw.Send(packet); err != nil {
		t.Fatal(err)
	}
	frame, err := capture.Wait(deadline(t, 3*time.Second), func(f traffic.Frame) bool { return !f.Outgoing })
	if err != nil {
		t.Fatal(err)
	}
	if got := frame.Data[34:42]; !bytes.Equal(got, packet[20:]) {
		t.Errorf("payload %v, want %v", got, packet[20:])
	}
	if err := errors.Join(raw.Close(), raw.Close(), capture.Close(), capture.Close()); err != nil {
		t.Error(err)
	}
	if frames, err := capture.Frames(); len(frames) == 0 || err != nil {
		t.Errorf("%d frames, %v", len(frames), err)
	}
}

// The sources choose cubic though the machine's allowed list need not have it.
func TestCongestionControlNeedsNoSysctl(t *testing.T) {
	p := newPair(t, wire.Config{})
	for _, cc := range []string{"cubic", "reno", "bbr"} {
		result, err := traffic.Bulk(deadline(t, 10*time.Second), traffic.BulkConfig{
			From: p.a, To: p.b, Remote: at(pairB), CongestionControl: cc, Seed: 9,
			Bytes: 1_000_003, Drain: 3 * time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		if !result.Complete() || result.Sink.Bytes != 1_000_003 || result.Source.TCP.CongestionControl != cc {
			t.Errorf("%s: %+v", cc, result)
		}
	}
}
