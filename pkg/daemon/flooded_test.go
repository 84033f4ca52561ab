package daemon

import (
	"errors"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// On a bridge of three ports a packet for a station that was not heard leaves by two.
// Its flow is decided about only by the port that leads there.
func TestFlooded(t *testing.T) {
	const third = 9
	key := imaging(t)
	there, back := key.PairKey(), key.Reverse().PairKey()
	station := [6]byte{2, 5: 0xb}
	from := packet.Frame{Port: lan, Dst: station}
	for name, tt := range map[string]struct {
		frames learned
		port   int // of the station; 0: not heard
		err    error
		key    packet.FlowKey
		out    int
		want   bool
	}{
		"nobody knows":                {learned{there: from}, 0, nil, key, wan, true},
		"the right one":               {learned{there: from}, wan, nil, key, wan, false},
		"another one":                 {learned{there: from}, wan, nil, key, third, true},
		"answers come there":          {learned{there: from, back: {Port: wan}}, 0, nil, key, wan, false},
		"answers come there no more":  {learned{there: from, back: {Port: wan}}, third, nil, key, third, false},
		"answers come elsewhere":      {learned{there: from, back: {Port: wan}}, 0, nil, key, third, true},
		"it cannot be asked":          {learned{there: from}, 0, errors.New("no"), key, wan, false},
		"to all stations":             {learned{there: {Port: lan, Dst: [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}}, 0, nil, key, wan, false},
		"no frame":                    {learned{}, 0, nil, key, wan, false},
		"no policy":                   {learned{there: from}, 0, nil, tcpPacket(t, "10.1.0.2:4000", "10.2.0.2:9", packet.FlagSYN).Key(), wan, false},
		"the policy is for the other": {learned{back: from}, 0, nil, key.Reverse(), wan, true},
	} {
		table, two := testTable(t), false
		table.frames = frames{learned: tt.frames, station: func(of int, mac [6]byte) (int, error) {
			if of != lan || mac != station {
				t.Errorf("%s: %x of port %d", name, mac, of)
			}
			return tt.port, tt.err
		}, two: func() bool { return two }}
		if got := table.flooded(tt.key, lan, tt.out); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
		two = true
		if table.flooded(tt.key, lan, tt.out) {
			t.Errorf("%s, with two ports", name)
		}
	}
}

// Under a flood of them the kernel stops asking.
func TestFloodedAreBounded(t *testing.T) {
	var a allowance
	now := time.Now()
	for i := range 3 * mostFlooded {
		if got := a.take(now); got != (i < mostFlooded) {
			t.Fatalf("number %d: %v", i, got)
		}
	}
	if !a.take(now.Add(time.Second)) {
		t.Error("none in the next second")
	}
}
