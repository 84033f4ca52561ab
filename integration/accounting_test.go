package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig/traffic"
	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// accounts are a box's records of one state.
func (b *box) accounts(t *testing.T, state string) []console.AccountingRow {
	t.Helper()
	rows, err := b.Accounting(t.Context(), state)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// markedEF counts frames by whether they are marked.
func markedEF(t *testing.T, c *traffic.Capture) (with, without uint64) {
	t.Helper()
	frames := captured(t, c)
	for _, f := range frames {
		if dscpOf(f.Data) == dscp.EF {
			with++
		} else {
			without++
		}
	}
	return with, without
}

// What the first box accounts for is what came to the second one, to the packet:
// marked what conforms, unmarked what exceeds, although the box is killed in between
// and comes back. The record is kept until it is read, and is a line of a file that
// is let go when it is moved away.
func TestAccountingIsExact(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	one, two := l.boxes[0], l.boxes[1]
	wan := capture(t, two.ns, leftWAN, toPort(portHand))
	records := filepath.Join(one.dir, "records.json")
	bare := l.edge(0, "  []\n", "accounting: {file: "+records+"}")
	l.startAll(t, bare.String(), l.edge(1, "  []\n", "").String())
	if l.isBridge(0) { // which must have seen where hosts are
		ping(t, l.a, addrB)
	}
	hand := reserve("--bandwidth", "100kbit", "--burst", "2kB", "--mark", "ef", "--owner", "ops")
	two.must(t, append(hand, "--no-wait")...)
	one.must(t, hand...)

	source := udpFrom(t, l.a, portSource, portHand)
	listenUDP(t, l.b, at(addrB, portHand))
	sent := uint64(0)
	send := func(n int) { // twice as much as is reserved
		for range n {
			if _, err := source.Write(make([]byte, 100)); err != nil {
				t.Error(err)
			}
			sent++
			time.Sleep(5 * time.Millisecond)
		}
	}
	send(500)
	eventually(t, 8*time.Second, "the book is kept", func() error {
		_, err := os.Stat(filepath.Join(one.state(), "accounting.json"))
		return err
	})
	one.kill(t)
	send(100) // the kernel goes on counting
	one.start(t, bare.String())
	one.waitReservation(t, "1", console.SessionReserved)
	send(200)
	eventually(t, 8*time.Second, "all that was sent has come", func() error {
		if with, without := markedEF(t, wan); with+without != sent {
			return fmt.Errorf("%d and %d of %d", with, without, sent)
		}
		return nil
	})
	if rows := one.accounts(t, console.AccountRunning); len(rows) != 1 || rows[0].ConformPackets+rows[0].ExceedPackets != sent {
		t.Errorf("while it runs: %+v", rows)
	}
	one.must(t, "release", "1")
	var row console.AccountingRow
	eventually(t, 8*time.Second, "the record is complete", func() error {
		rows := one.accounts(t, console.AccountEnded)
		if len(rows) != 1 {
			return fmt.Errorf("%+v", rows)
		}
		row = rows[0]
		return nil
	})
	with, without := markedEF(t, wan)
	const size = 128
	if row.ConformPackets != with || row.ExceedPackets != without || row.ConformBytes != size*with || row.ExceedBytes != size*without || row.DroppedPackets != 0 {
		t.Errorf("%+v, but %d frames were marked and %d not", row, with, without)
	}
	if with < 200 || without < 200 || row.PeakBPS == 0 || row.DurationS < 3 || row.ReservedBPS != 100_000 || row.Serial != 1 {
		t.Errorf("%d, %d: %+v", with, without, row)
	}
	if len(row.Users) != 1 || row.Users[0] != (console.AccountingUser{User: "ops", Kind: "owner"}) || len(row.Branches) != 1 || row.Branches[0].Interface != rightWAN {
		t.Errorf("%+v", row)
	}
	users, err := one.AccountingUsers(t.Context())
	if err != nil || len(users) != 1 || users[0].AccountingUsage != row.AccountingUsage || users[0].Running != 0 {
		t.Errorf("%+v, %v", users, err)
	}

	// It is there until it is read.
	var read []console.AccountingRow
	if err := json.Unmarshal([]byte(one.must(t, "accounting", "--read", "--json")), &read); err != nil || len(read) != 1 || read[0].Serial != 1 {
		t.Errorf("%v: %+v", err, read)
	}
	if out := one.must(t, "accounting"); out != "no records\n" {
		t.Errorf("%s", out)
	}
	// And in the file, which may be moved away.
	line := func(path string) (out console.AccountingRow) {
		t.Helper()
		eventually(t, 8*time.Second, path, func() error {
			data, err := os.ReadFile(path)
			if err == nil && strings.Count(string(data), "\n") != 1 {
				err = fmt.Errorf("%s", data)
			}
			if err == nil {
				err = json.Unmarshal(data, &out)
			}
			return err
		})
		return out
	}
	if got := line(records); got.AccountingUsage != row.AccountingUsage || got.Serial != row.Serial {
		t.Errorf("%+v", got)
	}
	if err := os.Rename(records, records+".1"); err != nil {
		t.Fatal(err)
	}
	one.signal(t, unix.SIGHUP)
	eventually(t, 8*time.Second, "the file is made anew", func() error { _, err := os.Stat(records); return err })
	one.must(t, hand...)
	one.must(t, "release", "2")
	if got := line(records); got.Serial != 2 || got.Packets != 0 {
		t.Errorf("%+v", got)
	}
	line(records + ".1")
}
