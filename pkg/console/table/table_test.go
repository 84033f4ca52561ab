package table

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/console/consoletest"
)

var update = flag.Bool("update", false, "write the golden files anew")

func printers(b *consoletest.Backend) map[string]func(io.Writer) error {
	return map[string]func(io.Writer) error{
		"status":   func(w io.Writer) error { return Status(w, b.Status()) },
		"flows":    func(w io.Writer) error { return Flows(w, b.Flows()) },
		"sessions": func(w io.Writer) error { return Sessions(w, b.Sessions()) },
		"links":    func(w io.Writer) error { return Links(w, b.Links()) },
		"policies": func(w io.Writer) error { return Policies(w, b.Policies()) },
		"users":    func(w io.Writer) error { return Users(w, b.Users()) },
		"stats":    func(w io.Writer) error { return Stats(w, b.Stats()) },

		"accounting":        func(w io.Writer) error { return Accounting(w, b.Accounting()) },
		"accounting-users":  func(w io.Writer) error { return AccountingUsers(w, b.AccountingUsers()) },
		"reservations":      func(w io.Writer) error { rows, _ := b.Reservations(); return Reservations(w, rows) },
		"rsvp-neighbors":    func(w io.Writer) error { return RSVPNeighbors(w, b.NeighborRows) },
		"rsvp-senders":      func(w io.Writer) error { return RSVPSenders(w, b.SenderRows) },
		"rsvp-reservations": func(w io.Writer) error { return RSVPReservations(w, b.RequestRows) },
		"rsvp-interfaces":   func(w io.Writer) error { return RSVPInterfaces(w, b.InterfaceRows) },
		"rsvp-counters":     func(w io.Writer) error { return RSVPCounters(w, b.Stats().RSVP) },
		"rsvp-trace":        func(w io.Writer) error { return Trace(w, b.TraceValue) },
	}
}

func TestGolden(t *testing.T) {
	for name, print := range printers(consoletest.Example()) {
		var got bytes.Buffer
		if err := print(&got); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", name+".txt")
		if *update {
			if err := os.WriteFile(path, got.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got.String()); diff != "" {
			t.Errorf("%s (-golden +got):\n%s", name, diff)
		}
	}
}

// nothing makes of a list's name what is said to be missing.
var nothing = strings.NewReplacer("rsvp-", "", "neighbors", "neighbours", "accounting-users", "users", "accounting", "records")

func TestEmptyBox(t *testing.T) {
	for name, print := range printers(&consoletest.Backend{}) {
		var got bytes.Buffer
		if err := print(&got); err != nil {
			t.Fatal(err)
		}
		if name != "status" && name != "stats" && name != "rsvp-counters" && name != "rsvp-trace" && got.String() != "no "+nothing.Replace(name)+"\n" {
			t.Errorf("%s: %q", name, &got)
		}
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("pipe") }

func TestWriteErrorsAreReturned(t *testing.T) {
	for name, print := range printers(consoletest.Example()) {
		if err := print(broken{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestControlCharactersAreNotPrinted(t *testing.T) {
	var got bytes.Buffer
	if err := Sessions(&got, []console.SessionRow{{Error: "a\x1b[2Jb\tc\nd"}}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got.String(), "a?[2Jb?c?d") || strings.Count(got.String(), "\n") != 2 {
		t.Errorf("%q", &got)
	}
}

func TestUnits(t *testing.T) {
	for want, got := range map[string]string{
		"7.96 Mbit/s": rate(7_960_000), "8 Mbit/s": rate(8e6), "19 Mbit/s": rate(19e6), "999 bit/s": rate(999), "1 kbit/s": rate(1000),
		"1 Mbit/s": rate(999_999), "1.25 Gbit/s": rate(1.25e9), "-": rate(0), "100 Mbit/s": rate(100e6),
		"122 MB": size(121_851_000), "64 kB": size(64000), "1 B": size(1),
		"0.41 ms": micros(410), "101 ms": micros(101_300), "2100 ms": micros(2_100_000),
		"8s": age(8), "2m5s": age(125), "1h2m": age(3720), "1d2h": age(93784),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
