package main

import (
	"os"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/roottest"
)

// TestMain lets this program be the three nodes, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == nodeArg {
		main()
		return
	}
	os.Exit(m.Run())
}

// The measurement itself works: with few sessions each of its rows comes about,
// nothing is lost and nothing times out. Its figures are for `make scale`.
func TestChains(t *testing.T) {
	roottest.Need(t)
	for name, c := range map[string]chain{
		"summary": {sessions: 200, reliable: true, hold: 2 * time.Second},
		"plain":   {sessions: 200, hold: 2 * time.Second},
		"treated": {sessions: 100, reliable: true, treat: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.name, c.window, c.refresh, c.settle = name, 8, time.Second, time.Second
			r, err := c.measure(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if r.Lost != 0 || r.PerCore <= 0 || r.Chain <= 0 || r.CalmP50 <= 0 || r.RushP99 < r.RushP50 || r.Heap <= 0 {
				t.Errorf("%+v", r)
			}
			if (r.Share > 0) != (c.hold > 0) || (r.TreatP50 > 0) != c.treat {
				t.Errorf("%+v", r)
			}
			if c.hold > 0 && c.reliable != (r.Datagrams < 100) {
				t.Errorf("RFC 2961: %v, yet %.0f datagrams a second for %d sessions that are refreshed each second", c.reliable, r.Datagrams, c.sessions)
			}
		})
	}
}

func TestQuantile(t *testing.T) {
	list := []time.Duration{1, 2, 3, 4}
	if quantile(nil, 50) != 0 || quantile(list, 50) != 3 || quantile(list, 99) != 4 || quantile(list, 0) != 1 {
		t.Error(quantile(nil, 50), quantile(list, 50), quantile(list, 99), quantile(list, 0))
	}
}
