package nfq

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseRow(t *testing.T) {
	num, c, err := parseRow([]byte("  101   4242    17 2 65531     3     5     1234  1\n"))
	want := KernelCounters{PortID: 4242, Waiting: 17, QueueDropped: 3, UserDropped: 5, LastID: 1234}
	if err != nil || num != 101 || c != want {
		t.Error(num, err, cmp.Diff(want, c))
	}
	for _, bad := range []string{"", "1 2 3", "70000 1 1 1 1 1 1 1", "x 1 1 1 1 1 1 1", "1 1 1 1 1 1 1 -1"} {
		if _, _, err := parseRow([]byte(bad)); err == nil {
			t.Errorf("%q is no error", bad)
		}
	}
}
