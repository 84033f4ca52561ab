// Package dissect has tests read RSVP messages by tshark, an implementation that
// is not ours.
package dissect

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/qosproxy/qosproxy/pkg/roottest"
)

const protocolRSVP = 46

// Packet is an IP packet with an RSVP message.
func Packet(t testing.TB, src, dst netip.Addr, hops uint8, message []byte) []byte {
	t.Helper()
	var header gopacket.SerializableLayer = &layers.IPv4{
		Version: 4, IHL: 5, TTL: hops, Protocol: protocolRSVP, SrcIP: net.IP(src.AsSlice()), DstIP: net.IP(dst.AsSlice()),
	}
	if dst.Is6() {
		header = &layers.IPv6{
			Version: 6, HopLimit: hops, NextHeader: protocolRSVP, SrcIP: net.IP(src.AsSlice()), DstIP: net.IP(dst.AsSlice()),
		}
	}
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, opts, header, gopacket.Payload(message)); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// File writes IP packets to a capture file of the test's own.
func File(t testing.TB, packets [][]byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rsvp.pcap")
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := pcapgo.NewWriter(out)
	if err := w.WriteFileHeader(1<<16, layers.LinkTypeRaw); err != nil {
		t.Fatal(err)
	}
	for i, p := range packets {
		info := gopacket.CaptureInfo{Timestamp: time.Unix(int64(i), 0), CaptureLength: len(p), Length: len(p)}
		if err := w.WritePacket(info, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return file
}

// Tshark reads a capture file and returns what it prints. Without it the test is
// skipped, or fails where everything has to be there.
func Tshark(t testing.TB, file string, args ...string) string {
	t.Helper()
	tshark := roottest.Tool(t, "tshark")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, tshark, append([]string{"-r", file}, args...)...).Output()
	if err != nil {
		t.Fatalf("tshark %v: %v", args, err)
	}
	return string(out)
}
