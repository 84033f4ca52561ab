package nfq

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// Outcome is what a handler decided about one packet of a capture.
type Outcome struct {
	Time    time.Time // when it was captured
	Verdict Verdict
	// Packet is as the handler left it. It and Before are valid during the
	// call only.
	Packet *Packet
	Before []byte // the packet as it was, for comparison with Packet.Data
}

// Replay feeds a handler from a capture (pcap or pcapng, of Ethernet or of bare
// IP packets) and tells every verdict to result. The capture's times are the
// handler's clock: its timers run between the packets when they are due, never
// after the last one. What is not IP is skipped, as it would never be queued.
// An error of result ends the replay.
func Replay(capture io.Reader, h Handler, result func(Outcome) error) error {
	src, err := openCapture(capture)
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	var p Packet
	var before []byte
	for id := uint32(1); ; {
		frame, info, err := src.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("replay: packet %d: %w", id, err)
		}
		data, ok := network(src.LinkType(), frame)
		if !ok {
			continue
		}
		runTimers(h, info.Timestamp)
		before = append(before[:0], data...)
		p = Packet{
			ID: id, InIndex: info.InterfaceIndex, Data: slices.Clip(data),
			Truncated: info.Length > info.CaptureLength,
			OrigLen:   len(data) + max(0, info.Length-info.CaptureLength),
		}
		v := h.Handle(info.Timestamp, &p)
		h.BatchEnd(info.Timestamp)
		if err := result(Outcome{Time: info.Timestamp, Verdict: v, Packet: &p, Before: before}); err != nil {
			return err
		}
		id++
	}
}

// maxTimers bounds the timers between two packets, should a handler's deadline
// never move on.
const maxTimers = 1 << 20

// runTimers calls Advance for every deadline up to now, each at its time.
func runTimers(h Handler, now time.Time) {
	for range maxTimers {
		deadline, ok := h.NextDeadline()
		if !ok || deadline.After(now) {
			return
		}
		h.Advance(deadline)
		h.BatchEnd(deadline)
	}
}

// capture is what both formats' readers are.
type capture interface {
	ReadPacketData() ([]byte, gopacket.CaptureInfo, error)
	LinkType() layers.LinkType
}

func openCapture(r io.Reader) (capture, error) {
	br := bufio.NewReaderSize(r, 1<<16)
	magic, err := br.Peek(4)
	if err != nil {
		return nil, fmt.Errorf("not a capture file: %w", err)
	}
	if binary.BigEndian.Uint32(magic) == 0x0a0d0d0a { // a section header block
		return pcapgo.NewNgReader(br, pcapgo.DefaultNgReaderOptions)
	}
	return pcapgo.NewReader(br)
}

// network finds the IP packet in a frame.
func network(link layers.LinkType, frame []byte) ([]byte, bool) {
	switch link {
	case layers.LinkTypeEthernet:
		if len(frame) < 14 {
			return nil, false
		}
		typ, rest := binary.BigEndian.Uint16(frame[12:]), frame[14:]
		for tags := 0; (typ == 0x8100 || typ == 0x88a8) && tags < 2 && len(rest) >= 4; tags++ { // IEEE 802.1Q
			typ, rest = binary.BigEndian.Uint16(rest[2:]), rest[4:]
		}
		return rest, (typ == 0x0800 || typ == 0x86dd) && len(rest) > 0
	case layers.LinkTypeLinuxSLL:
		if len(frame) <= 16 {
			return nil, false
		}
		typ := binary.BigEndian.Uint16(frame[14:])
		return frame[16:], typ == 0x0800 || typ == 0x86dd
	case layers.LinkTypeRaw, layers.LinkTypeIPv4, layers.LinkTypeIPv6, 12:
		return frame, len(frame) > 0
	default:
		return nil, false
	}
}
