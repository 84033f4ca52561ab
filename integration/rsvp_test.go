package integration

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/roottest"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// All messages of a grant, a refusal, a flow's end and a box's end are read by
// an implementation that is not ours.
func TestRSVPOnTheWire(t *testing.T) {
	t.Parallel()
	roottest.Need(t)
	tshark := roottest.Tool(t, "tshark")
	l := newLab(t, 2, nil)
	rsvp := capture(t, l.boxes[0].ns, rightWAN, isRSVP)
	one := l.edge(0, usualPolicies, "")
	one.capacity = "12mbit" // 80% of it have no room for a second TCP flow
	l.startAll(t, one.String(), l.edge(1, usualPolicies, "").String())

	end := l.talk(t, portVoice, 12*time.Second)
	l.boxes[0].waitSession(t, portVoice, console.SessionReserved)
	first, firstSink := l.open(t, cheatable{"realtime", portRealtime, false})
	l.boxes[0].waitSession(t, portRealtime, console.SessionReserved)
	source, sink := l.open(t, cheatable{"reliable", portReliable, false})
	data := send(source, sink, random(1, 200_000))
	waitMessage(t, rsvp, wire.ResvErr)
	data.wait(t)
	for _, c := range []*net.TCPConn{source, sink, first, firstSink} {
		_ = c.Close()
	}
	waitMessage(t, rsvp, wire.PathTear)
	l.boxes[1].stop(t)
	waitMessage(t, rsvp, wire.ResvTear)
	end().check(t)
	l.boxes[0].stop(t)

	frames := captured(t, rsvp)
	file := filepath.Join(t.TempDir(), "rsvp.pcap")
	writePcap(t, file, frames)
	types := readByTshark(t, tshark, file, len(frames), 0)
	for _, want := range []wire.MsgType{wire.Path, wire.Resv, wire.ResvErr, wire.PathTear, wire.ResvTear} {
		if types[want] == 0 {
			t.Errorf("no %s among %v", want, types)
		}
	}
	t.Logf("%d messages: %v", len(frames), types)
}

// readFrames writes frames to a file and has tshark read it.
func readFrames(t *testing.T, frames []traffic.Frame) map[wire.MsgType]int {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rsvp.pcap")
	writePcap(t, file, frames)
	return readByTshark(t, roottest.Tool(t, "tshark"), file, len(frames), 0)
}

func writePcap(t *testing.T, file string, frames []traffic.Frame) {
	t.Helper()
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := pcapgo.NewWriter(out)
	if err := w.WriteFileHeader(1<<16, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		info := gopacket.CaptureInfo{Timestamp: f.At, CaptureLength: len(f.Data), Length: len(f.Data)}
		if err := w.WritePacket(info, f.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// readByTshark returns how often it saw each message type, and fails the test
// over what it objects to. Of so many foreign sessions it may say that it does not
// know them (RFC 2207, RFC 4860; wire's TestTsharkReadsEverything has which).
func readByTshark(t *testing.T, tshark, file string, want, foreign int) map[wire.MsgType]int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second) // also at the end of a test, when its own context is over
	defer cancel()
	out, err := exec.CommandContext(ctx, tshark, "-r", file, "-o", "ip.check_checksum:TRUE", "-T", "json",
		"-e", "_ws.malformed", "-e", "_ws.expert.message", "-e", "rsvp.msg").Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	var packets []struct {
		Source struct {
			Layers map[string][]string `json:"layers"`
		} `json:"_source"`
	}
	if err := json.Unmarshal(out, &packets); err != nil {
		t.Fatalf("tshark's output: %v", err)
	}
	if len(packets) != want {
		t.Errorf("tshark read %d packets of %d", len(packets), want)
	}
	types, sums := map[wire.MsgType]int{}, 0
	for i, p := range packets {
		l := p.Source.Layers
		if slices.Equal(l["_ws.expert.message"], []string{"Unknown session type"}) && foreign > 0 {
			foreign--
			delete(l, "_ws.expert.message")
		}
		if len(l["rsvp.msg"]) == 0 || len(l["_ws.malformed"])+len(l["_ws.expert.message"]) > 0 {
			t.Errorf("packet %d: %v", i+1, l)
		}
		for _, text := range l["rsvp.msg"] { // a Bundle has more than one
			var kind uint8
			if _, err := fmt.Sscan(text, &kind); err != nil {
				t.Errorf("packet %d: %v, %v", i+1, l, err)
			}
			types[wire.MsgType(kind)]++
			if wire.MsgType(kind) != wire.Bundle { // of which tshark judges the inner ones only
				sums++
			}
		}
	}
	text, err := exec.CommandContext(ctx, tshark, "-r", file, "-V").Output()
	if err != nil {
		t.Fatalf("tshark -V: %v", err)
	}
	if good := strings.Count(string(text), "[correct]"); good != sums {
		t.Errorf("%d messages in %d packets, %d checksums are correct", sums, want, good)
	}
	return types
}

// What is no RSVP message is counted, and the box lives on.
func TestRSVPGarbage(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	b := l.boxes[0]
	rsvp := capture(t, b.ns, rightWAN, isRSVP)
	l.startPlainEdges(t, usualPolicies)
	end := l.talk(t, portVoice, 12*time.Second)
	_, frame := waitMessage(t, rsvp, wire.Path)
	b.waitSession(t, portVoice, console.SessionReserved)

	good := frame[ethernet : ethernet+int(binary.BigEndian.Uint16(frame[ethernet+2:]))]
	bad := garbage(good)
	raw, err := traffic.OpenRaw(l.a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	for _, packet := range bad {
		if err := raw.Send(packet); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 5*time.Second, "garbage is counted", func() error {
		st, err := b.Stats(t.Context())
		if err != nil {
			return err
		}
		e := st.RSVP.Errors
		if got := e.Malformed + e.Checksum + e.Unknown; got != uint64(len(bad)) || e.Malformed == 0 || e.Checksum == 0 {
			return fmt.Errorf("%d packets of garbage, counted are %+v", len(bad), e)
		}
		return nil
	})
	if st, err := b.Status(t.Context()); err != nil || st.State != "running" {
		t.Errorf("status %+v, %v", st, err)
	}
	b.waitSession(t, portVoice, console.SessionReserved)
	second := l.talk(t, portVoice+1, 8*time.Second)
	b.waitSession(t, portVoice+1, console.SessionReserved)
	second().check(t)
	end().check(t)
}

// garbage makes packets from a good PATH, none of which is a message.
func garbage(path []byte) [][]byte {
	header := int(path[0]&15) * 4
	with := func(payload []byte) []byte { return append(slices.Clone(path[:header]), payload...) }
	message := path[header:]
	var out [][]byte
	for n := 0; n < len(message); n += 3 { // truncated, the length in its header unchanged
		out = append(out, with(message[:n]))
	}
	for i := 4; i < len(message); i += 5 { // one bit wrong
		flipped := slices.Clone(message)
		flipped[i] ^= 0x10
		out = append(out, with(flipped))
	}
	for seed := range uint64(100) {
		noise := random(seed+1, 2+int(seed)*7)
		noise[1] = byte(wire.Path) // what is not for every hop would pass: it is for B
		out = append(out, with(noise))
	}
	return out
}
