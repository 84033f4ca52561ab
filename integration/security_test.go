package integration

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/roottest"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

const priorityPolicy = `
  - name: voice
    match: {protocol: udp, to_port: 5004-5020}
    reserve: {role: both, service: controlled-load, tspec: {rate: 80kbit, burst: 800B, max_packet: 400B}, priority: {setup: 3, hold: 7}}
    mark: voice-admit
`

const portVoice6 = portVoice + 1 // over IPv6

// secret puts a key where only its box's user can read it.
func (b *box) secret(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// key is an entry of interfaces[].integrity.
func key(id int, file, more string) string {
	return fmt.Sprintf("{id: %d, algorithm: hmac-sha256, key_file: %s%s}", id, file, more)
}

// securedEdge is the configuration of a box whose side of the link has keys.
func (l *lab) securedEdge(i int, keys ...string) string {
	c := l.edge(i, priorityPolicy, "")
	c.reliable, c.secured = true, ", integrity: ["+strings.Join(keys, ", ")+"]"
	return c.String()
}

func (b *box) integrity(t *testing.T) console.IntegrityStats {
	t.Helper()
	st, err := b.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st.RSVP.Integrity == nil {
		t.Fatalf("%s: no figures of authentication", b.name)
	}
	return *st.RSVP.Integrity
}

// wrong is what authentication refused that was neither before a handshake nor
// a copy.
func wrong(s console.IntegrityStats) (n uint64) {
	for _, reason := range []string{"malformed", "unsigned", "unknown-key", "key-lifetime", "digest", "unwilling", "crowded", "cookie"} {
		n += s.Refused[reason]
	}
	return n
}

// envelopes are the messages of a frame, those of a Bundle one by one.
func envelopes(f []byte) (list []wire.Envelope, err error) {
	v, err := packet.Parse(f[ethernet:])
	if err != nil {
		return nil, err
	}
	subs := [][]byte{v.Transport()}
	if wire.IsBundle(subs[0]) {
		if _, subs, err = wire.SplitBundle(subs[0]); err != nil {
			return nil, err
		}
	}
	for _, sub := range subs {
		e, openErr := wire.Open(sub)
		err = errors.Join(err, openErr)
		list = append(list, e)
	}
	return list, err
}

// keysSeen are the key ids of the messages that one box sent, and the frames.
func keysSeen(t *testing.T, c *traffic.Capture, outgoing bool, since time.Time) map[uint64]int {
	t.Helper()
	frames := captured(t, c)
	ids := map[uint64]int{}
	for _, f := range frames {
		if f.Outgoing != outgoing || f.At.Before(since) {
			continue
		}
		list, err := envelopes(f.Data)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			switch {
			case e.Type == wire.IntegrityChallenge: // needs none (RFC 2747 section 4.3)
			case !e.Signed || len(e.Integrity.Digest) != 32 || !e.Integrity.Handshake():
				t.Errorf("%s is not signed as it should be: %+v", e.Type, e)
			default:
				ids[e.Integrity.KeyID]++
			}
		}
	}
	return ids
}

// A reservation between boxes that share a key: every message is signed, an
// implementation that is not ours reads them, and what an attacker recorded does
// nothing when it is sent again. A box that was killed proves itself and has its
// neighbour prove itself when it is back, and the reservation comes back.
// RFC 2205 section 2.8.
func TestSecuredReservationRFC2747(t *testing.T) {
	t.Parallel()
	roottest.Need(t)
	tshark := roottest.Tool(t, "tshark")
	l := newLab(t, 2, nil)
	rsvp := capture(t, l.boxes[0].ns, rightWAN, func(f []byte) bool { return isRSVP(f) || isRSVP6(f) })
	configs := make([]string, 2)
	for i, b := range l.boxes {
		configs[i] = l.securedEdge(i, key(1, b.secret(t, "key", "a secret of both"), ""))
	}
	l.startAll(t, configs...)
	heard, heard6 := capture(t, l.b, hostIface, toPort(portVoice)), capture(t, l.b, hostIface, toPort(portVoice6))
	end, end6 := l.talk(t, portVoice, 60*time.Second), l.talkTo(t, at(addrB6, portVoice6), 60*time.Second)
	for _, b := range l.boxes {
		b.waitSession(t, portVoice6, console.SessionReserved)
		row := b.waitSession(t, portVoice, console.SessionReserved)
		if row.Priority == nil || *row.Priority != (console.Priority{Setup: 3, Hold: 7}) {
			t.Errorf("%s: priority %+v", b.name, row.Priority)
		}
		if s := b.integrity(t); s.Handshakes == 0 || s.Signed == 0 || s.Accepted == 0 || wrong(s) != 0 {
			t.Errorf("%s: %+v", b.name, s)
		}
	}
	replay(t, l, rsvp)

	// The one box is killed. The other knows nothing of that and goes on.
	b := l.boxes[1]
	b.kill(t)
	b.start(t, configs[1])
	row := b.waitSession(t, portVoice, console.SessionReserved)
	if s := b.integrity(t); s.Handshakes == 0 || wrong(s) != 0 {
		t.Errorf("%s after its restart: %+v", b.name, s)
	}
	l.boxes[0].waitSession(t, portVoice, console.SessionReserved)
	if row.Role != "receiver-proxy" {
		t.Errorf("session %+v", row)
	}
	// The other is stopped in good order, which tears the session down, and is
	// started again. Its tear is among what is sent again then.
	before, before6 := heardSo(t, heard), heardSo(t, heard6)
	l.boxes[0].stop(t)
	b.waitNoSession(t, portVoice)
	l.boxes[0].start(t, configs[0])
	for _, b := range l.boxes {
		b.waitSession(t, portVoice, console.SessionReserved)
		b.waitSession(t, portVoice6, console.SessionReserved)
	}
	replay(t, l, rsvp)
	end().checkStop(t, before)
	end6().checkStop(t, before6)
	for _, b := range l.boxes {
		b.stop(t)
	}
	if all := keysSeen(t, rsvp, true, time.Time{}); all[1] == 0 || len(all) != 1 {
		t.Errorf("keys of box1's messages: %v", all)
	}
	frames := captured(t, rsvp)
	// tshark remarks on the handshake that it has no SESSION.
	frames = slices.DeleteFunc(frames, func(f traffic.Frame) bool {
		list, err := envelopes(f.Data)
		return err == nil && (list[0].Type == wire.IntegrityChallenge || list[0].Type == wire.IntegrityResponse)
	})
	file := filepath.Join(t.TempDir(), "signed.pcap")
	writePcap(t, file, frames)
	types := readByTshark(t, tshark, file, len(frames), 0)
	for _, want := range []wire.MsgType{wire.Path, wire.Resv, wire.PathTear} {
		if types[want] == 0 {
			t.Errorf("no %s among %v", want, types)
		}
	}
}

// replay sends again all that box 1 has sent to box 2 so far, tears of earlier
// sessions included.
func replay(t *testing.T, l *lab, rsvp *traffic.Capture) {
	t.Helper()
	b := l.boxes[1]
	before, session := b.integrity(t), b.waitSession(t, portVoice, console.SessionReserved)
	raw, err := traffic.OpenRaw(l.boxes[0].ns)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	frames := captured(t, rsvp)
	copies := uint64(0)
	for _, f := range frames {
		list, err := envelopes(f.Data)
		if err != nil {
			t.Fatal(err)
		}
		if !f.Outgoing || list[0].Type == wire.IntegrityChallenge || list[0].Type == wire.IntegrityResponse {
			continue // a challenge may be asked by anybody; a response is looked for by its cookie
		}
		if err := raw.Send(slices.Clone(f.Data[ethernet:])); err != nil {
			t.Fatal(err)
		}
		copies += uint64(len(list))
		time.Sleep(time.Millisecond) // within limits.rsvp_rate
	}
	if copies < 3 {
		t.Fatalf("only %d messages to send again", copies)
	}
	eventually(t, 10*time.Second, "the copies are refused", func() error {
		if n := b.integrity(t).Refused["replayed"] - before.Refused["replayed"]; n < copies {
			return fmt.Errorf("%d of %d", n, copies)
		}
		return nil
	})
	after := b.waitSession(t, portVoice, console.SessionReserved)
	if after.Class != session.Class || after.AgeS < session.AgeS || after.Error != "" {
		t.Errorf("after %d copies the session is %+v, was %+v", copies, after, session)
	}
	if s := b.integrity(t); wrong(s) != wrong(before) || s.Associations != before.Associations {
		t.Errorf("%+v, was %+v", s, before)
	}
	t.Logf("%d copies refused", copies)
}

// Boxes that do not share the secret do not reserve, the counters say why, the
// data flows; when the secret is put right and the box told, the reservation
// comes.
func TestWrongKeyRFC2747(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	one, two := l.boxes[0], l.boxes[1]
	file := two.secret(t, "key", "another secret")
	l.startAll(t, l.securedEdge(0, key(1, one.secret(t, "key", "the secret"), "")), l.securedEdge(1, key(1, file, "")))
	end := l.talk(t, portVoice, 40*time.Second)
	eventually(t, 10*time.Second, "box2 counts the wrong digests", func() error {
		if s := two.integrity(t); s.Refused["digest"] < 3 || s.Accepted != 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	one.waitSession(t, portVoice, console.SessionPath)
	two.waitNoSession(t, portVoice)
	if !strings.Contains(two.proc.Stderr(), "integrity-digest") {
		t.Error("box2's log does not say why")
	}
	// A file that everybody can read is no secret: the reload is refused.
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	two.expected = []string{`"level":"error"`}
	if _, err := two.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "everybody may read") {
		t.Errorf("reload with a readable key: %v", err)
	}
	two.secret(t, "key", "the secret")
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := two.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	one.waitSession(t, portVoice, console.SessionReserved)
	two.waitSession(t, portVoice, console.SessionReserved)
	end().check(t)
}

// Keys with overlapping lifetimes: both boxes change over in the middle of the
// overlap, each has the other prove itself with the new key, and the reservation
// stands all the time (RFC 2747 section 5.1). When the last key ends it goes on,
// and status says so (section 5.3).
func TestKeyRolloverRFC2747Section5_1(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	rsvp := capture(t, l.boxes[0].ns, rightWAN, isRSVP)
	begin := time.Now()
	at := func(d time.Duration) string { return begin.Add(d).UTC().Format(time.RFC3339) }
	configs := make([]string, 2)
	for i, b := range l.boxes {
		configs[i] = l.securedEdge(i,
			key(1, b.secret(t, "old", "the old secret"), ", until: "+at(12*time.Second)),
			key(2, b.secret(t, "new", "the new secret"), ", from: "+at(4*time.Second)+", until: "+at(16*time.Second)))
	}
	l.startAll(t, configs...)
	end := l.talk(t, portVoice, 60*time.Second)
	for _, b := range l.boxes {
		b.waitSession(t, portVoice, console.SessionReserved)
	}
	reserved := func() {
		t.Helper()
		for _, b := range l.boxes {
			rows, err := b.Sessions(t.Context())
			if err != nil || len(rows) != 1 || rows[0].State != console.SessionReserved {
				t.Fatalf("%s after %v: %+v, %v", b.name, time.Since(begin), rows, err)
			}
		}
	}
	for time.Since(begin) < 14*time.Second {
		reserved()
		time.Sleep(100 * time.Millisecond)
	}
	for _, outgoing := range []bool{true, false} {
		if ids := keysSeen(t, rsvp, outgoing, time.Time{}); ids[1] == 0 || ids[2] == 0 || len(ids) != 2 {
			t.Errorf("outgoing %v: keys %v", outgoing, ids)
		}
		if ids := keysSeen(t, rsvp, outgoing, begin.Add(10*time.Second)); ids[1] != 0 || ids[2] == 0 {
			t.Errorf("outgoing %v: keys after the change %v", outgoing, slices.Collect(maps.Keys(ids)))
		}
	}
	for _, b := range l.boxes {
		if s := b.integrity(t); s.Handshakes < 2 || wrong(s) != 0 || s.StaleSigned+s.StaleAccepted != 0 {
			t.Errorf("%s: %+v", b.name, s)
		}
	}
	eventually(t, 20*time.Second, "the end of the last key is told", func() error {
		for _, b := range l.boxes {
			st, err := b.Status(t.Context())
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(st.Problems, func(p string) bool { return strings.Contains(p, "has ended (id 2)") }) || b.integrity(t).StaleAccepted == 0 {
				return fmt.Errorf("%s: %q", b.name, st.Problems)
			}
		}
		return nil
	})
	reserved()
	end().check(t)
}
