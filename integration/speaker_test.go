package integration

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"io"
	"os/exec"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/roottest"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// speaker is scapy's RSVP layer, an implementation that is not ours. It builds
// packets and reads them; testdata/speaker.py says what it can.
type speaker struct {
	in  io.Writer
	out *bufio.Reader
}

// spoken is a message in the words of speaker.py. Addresses are text, and a
// number of a TSpec is either one or, as text, its four bytes in hex.
type spoken struct {
	Type    string     `json:"type"`
	Src     string     `json:"src"`
	Dst     string     `json:"dst"`
	TTL     uint8      `json:"ttl"`
	Session []any      `json:"session,omitempty"` // address, protocol, port
	Hop     []any      `json:"hop,omitempty"`     // address, interface handle
	Refresh uint32     `json:"refresh,omitempty"`
	Error   []any      `json:"error,omitempty"` // node, flags, code, value
	Confirm string     `json:"confirm,omitempty"`
	Scope   []string   `json:"scope,omitempty"`
	Style   string     `json:"style,omitempty"`
	Sender  []any      `json:"sender,omitempty"` // address, port
	TSpec   []any      `json:"tspec,omitempty"`  // r, b, p, m, M
	AdSpec  int        `json:"adspec,omitempty"` // IS hops so far
	Flows   []flowSaid `json:"flows,omitempty"`
	Extra   [][]any    `json:"extra,omitempty"`   // class, C-Type, body in hex
	Without []string   `json:"without,omitempty"` // objects that are missing
	Patch   [][]any    `json:"patch,omitempty"`   // offset in the message, bytes in hex
	Cut     int        `json:"cut,omitempty"`     // bytes missing at the end
	KeepSum bool       `json:"keep_checksum,omitempty"`
	Version *int       `json:"version,omitempty"`
	SendTTL *int       `json:"send_ttl,omitempty"`
}

type flowSaid struct {
	FlowSpec []any   `json:"flowspec,omitempty"`
	Filters  [][]any `json:"filters,omitempty"`
}

// seen is what scapy finds in a packet.
type seen struct {
	Type    uint8  `json:"type"`
	SendTTL uint8  `json:"send_ttl"`
	TTL     uint8  `json:"ttl"`
	Src     string `json:"src"`
	Dst     string `json:"dst"`
	Alert   bool   `json:"alert"`
	Objects []struct {
		Class    uint8  `json:"class"`
		CType    uint8  `json:"ctype"`
		Length   int    `json:"length"`
		Neighbor string `json:"neighbor"`
		LIH      uint32 `json:"lih"`
		Refresh  uint32 `json:"refresh"`
		Words    []int  `json:"words"`
		Data     string `json:"data"`
	} `json:"objects"`
}

// object returns the body, in hex, of an object of a class.
func (s seen) object(class wire.Class) string {
	for _, o := range s.Objects {
		if o.Class == uint8(class) {
			return o.Data
		}
	}
	return ""
}

// newSpeaker starts scapy.
func newSpeaker(t *testing.T) *speaker {
	t.Helper()
	roottest.Need(t)
	python := roottest.Tool(t, "/usr/bin/python3")
	cmd := exec.Command(python, "testdata/speaker.py")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said tailWriter
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("scapy (package python3-scapy): %v\n%s", err, said.b)
		}
	})
	return &speaker{in: in, out: bufio.NewReader(out)}
}

// tailWriter keeps what a program that fails at once says.
type tailWriter struct{ b []byte }

func (w *tailWriter) Write(p []byte) (int, error) {
	if len(w.b) < 8192 {
		w.b = append(w.b, p...)
	}
	return len(p), nil
}

func (s *speaker) ask(t *testing.T, question, answer any) {
	t.Helper()
	line, err := json.Marshal(question)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.in.Write(append(line, '\n')); err != nil {
		t.Fatalf("scapy is gone: %v", err)
	}
	reply, err := s.out.ReadBytes('\n')
	if err != nil {
		t.Fatalf("scapy does not answer to %s: %v", line, err)
	}
	if err := json.Unmarshal(reply, answer); err != nil {
		t.Fatal(err)
	}
}

// build has scapy build an IP packet.
func (s *speaker) build(t *testing.T, m spoken) []byte {
	t.Helper()
	var answer struct{ Packet string }
	s.ask(t, map[string]any{"build": m}, &answer)
	b, err := hex.DecodeString(answer.Packet)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// read has scapy read a frame's IP packet.
func (s *speaker) read(t *testing.T, frame []byte) (out seen) {
	t.Helper()
	s.ask(t, map[string]any{"read": hex.EncodeToString(frame[ethernet:])}, &out)
	return out
}

// mouth is where a neighbour's packets leave: a namespace, by raw sockets.
type mouth struct {
	*traffic.Raw
	speaker *speaker
	heard   *traffic.Capture
}

// say sends what scapy builds.
func (m *mouth) say(t *testing.T, msg spoken) {
	t.Helper()
	if err := m.Send(m.speaker.build(t, msg)); err != nil {
		t.Fatal(err)
	}
}

// hears waits for an RSVP message of a type to arrive here after a time, that
// is as wanted, and returns it as our codec and as scapy read it.
func (m *mouth) hears(t *testing.T, kind wire.MsgType, after time.Time, want func(*wire.Message) bool) (*wire.Message, seen) {
	t.Helper()
	var found *wire.Message
	frame, err := m.heard.Wait(within(t, 8*time.Second), frameAfter(after, func(f []byte) bool {
		got, err := message(f)
		if err != nil || got.Type != kind || want != nil && !want(got) {
			return false
		}
		found = got
		return true
	}))
	if err != nil {
		t.Fatalf("no %s: %v", kind, err)
	}
	s := m.speaker.read(t, frame.Data)
	if s.Type != uint8(kind) {
		t.Errorf("scapy reads a message of type %d, not %s", s.Type, kind)
	}
	return found, s
}

func toSession(port uint16) func(*wire.Message) bool {
	return func(m *wire.Message) bool { return m.Session.DstPort == port }
}
