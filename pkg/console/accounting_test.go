package console_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/console/consoletest"
)

// Reading takes nothing away; what is struck out is what the reader names, and
// doing it again does nothing.
func TestAccountingIsReadThenStruckOut(t *testing.T) {
	b := consoletest.Example()
	b.AccountRows = append(b.AccountRows, console.AccountingRow{State: console.AccountEnded, Serial: 18})
	s := console.New(b, nil, nil)
	rows := func(state string) (list []console.AccountingRow) {
		t.Helper()
		w := ask(t, s, http.MethodGet, "/v1/accounting?state="+state)
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%d %v: %s", w.Code, err, w.Body)
		}
		return list
	}
	if n, m, all := len(rows("ended")), len(rows("running")), len(rows("")); n != 2 || m != 1 || all != 3 {
		t.Errorf("%d ended, %d running, %d in all", n, m, all)
	}
	if rows("ended"); len(rows("ended")) != 2 {
		t.Error("reading has struck something out")
	}
	for i, want := range []string{"{\"struck\":1,\"left\":1}\n", "{\"struck\":0,\"left\":1}\n"} {
		w := ask(t, s, http.MethodDelete, "/v1/accounting?through=17")
		if w.Code != http.StatusOK || w.Body.String() != want {
			t.Errorf("%d: %d %s", i, w.Code, w.Body)
		}
	}
	if left := rows(""); len(left) != 2 || left[0].State != console.AccountRunning || left[1].Serial != 18 {
		t.Errorf("%+v", left)
	}
}
