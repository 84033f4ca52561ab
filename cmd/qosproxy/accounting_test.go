package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/console/consoletest"
)

// closedPipe is an output that is gone.
type closedPipe struct{}

func (closedPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestAccounting(t *testing.T) {
	b := consoletest.Example()
	s := daemon(t, b)
	if got := run(t, "accounting", "-s", s); got.code != exitOK || !strings.Contains(got.out, "alice") || !strings.Contains(got.out, "239.1.2.3") {
		t.Errorf("%+v", got)
	}
	if got := run(t, "accounting", "users", "-s", s); got.code != exitOK || !strings.Contains(got.out, "owner") {
		t.Errorf("%+v", got)
	}
	var rows []console.AccountingRow
	if got := run(t, "accounting", "--running", "--json", "-s", s); json.Unmarshal([]byte(got.out), &rows) != nil || len(rows) != 1 || rows[0].State != console.AccountRunning {
		t.Errorf("%+v", got)
	}
	// What could not be printed is still there.
	var stderr bytes.Buffer
	a := &app{out: closedPipe{}, err: &stderr, getenv: func(string) string { return "" }}
	if code := a.execute(t.Context(), []string{"accounting", "--read", "-s", s}); code != exitFailed || len(b.AccountRows) != 2 {
		t.Errorf("%d: %d rows left: %s", code, len(b.AccountRows), &stderr)
	}
	if got := run(t, "accounting", "--read", "--json", "-s", s); json.Unmarshal([]byte(got.out), &rows) != nil || len(rows) != 1 || rows[0].Serial != 17 {
		t.Errorf("%+v", got)
	}
	if len(b.AccountRows) != 1 {
		t.Errorf("%+v", b.AccountRows)
	}
	if got := run(t, "accounting", "--read", "-s", s); got.code != exitOK || got.out != "no records\n" {
		t.Errorf("%+v", got)
	}
	b.AccountRows = append(b.AccountRows, console.AccountingRow{State: console.AccountEnded, Serial: 18}, console.AccountingRow{State: console.AccountEnded, Serial: 19})
	if got := run(t, "accounting", "strike", "18", "-s", s); got.code != exitOK || got.out != "1 records struck out, 1 left\n" {
		t.Errorf("%+v", got)
	}
	if got := run(t, "accounting", "strike", "19", "--json", "-s", s); got.code != exitOK || !strings.Contains(got.out, `"struck": 1`) {
		t.Errorf("%+v", got)
	}
}
