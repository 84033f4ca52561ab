package tcpcheat

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// thinSaid is a segment of the receiver in a random schedule, or what became
// of it.
type thinSaid struct {
	at     instant
	packet []byte
	ack    int
	must   bool // it may not be dropped, nor kept
	dup    bool
	blocks []packet.SACKBlock
}

// thinSchedule is a receiver's talk, of which it knows what is in it, and what
// the source gets of it.
type thinSchedule struct {
	*thinLab
	rng  *rand.Rand
	said []thinSaid
	got  []thinSaid
	ack  int
	win  int
	edge int
	loss bool
	sack []packet.SACKBlock // latest first
	told int                // how often this loss was told by them
}

func (s *thinSchedule) release() {
	if p := s.th.take(s.now); p != nil {
		s.got = append(s.got, thinSaid{at: s.now, packet: bytes.Clone(p)})
	}
}

// wait lets time go by, as an engine does that is woken when something is due.
func (s *thinSchedule) wait(d time.Duration) {
	for end := s.now + d; ; {
		due := s.th.due()
		if due > end {
			s.now = end
			return
		}
		s.now = max(s.now, due)
		s.release()
	}
}

// say has the receiver send a segment.
func (s *thinSchedule) say(seg thinSeg, must, dup bool) {
	v := s.build(seg)
	o, _ := packet.ParseOptions(v.TCP().Options())
	win := int(v.TCP().Window()) << 7
	seen := look(v, &o, seg.meta, win, thinISN.Add(s.sent), thinMSS)
	it := thinSaid{at: s.now, packet: bytes.Clone(v.Bytes()), ack: seg.ack, must: must, dup: dup}
	s.said = append(s.said, it)
	it.blocks = slices.Clone(seen.blocks)
	s.said[len(s.said)-1] = it
	switch s.th.offer(s.now, &seen) {
	case thinSwap:
		s.release()
		s.th.keep(s.now, &seen)
	case thinAfter:
		s.release()
		fallthrough
	case thinPass:
		s.got = append(s.got, it)
	case thinKeep:
	}
}

// step is one random thing that a receiver may do.
func (s *thinSchedule) step() {
	advance := func() { s.ack += (1 + s.rng.IntN(4)) * thinMSS }
	blocks := func(b ...packet.SACKBlock) []byte { return packet.AppendSACK(nil, b, 28) }
	block := func(from, to int) packet.SACKBlock {
		return packet.SACKBlock{Left: thinISN.Add(from), Right: thinISN.Add(to)}
	}
	s.sent = max(s.sent, s.ack+s.rng.IntN(30)*thinMSS)
	seg, must, dup := thinSeg{win: s.win}, true, false
	before := s.ack
	what := s.rng.IntN(40)
	if len(s.sack) > 0 && what >= 12 {
		what = 2 // losses go on for a while
	}
	switch what {
	case 0:
		seg.n, seg.seq = 100, 100
		if s.rng.IntN(2) == 0 {
			advance()
		}
	case 1:
		dup = true
	case 2:
		must = s.told < thinTales
		dup = must
		switch n := len(s.sack); {
		case n > 0 && s.rng.IntN(6) == 0: // a part is filled
			advance()
			s.sack = slices.DeleteFunc(s.sack, func(b packet.SACKBlock) bool { return b.Left.AtMost(thinISN.Add(s.ack)) })
			dup = false
		case n > 0 && s.rng.IntN(3) > 0:
			s.sack[0].Right = s.sack[0].Right.Add(thinMSS)
		default:
			far := thinISN.Add(s.ack)
			for _, b := range s.sack {
				far = packet.MaxSeq(far, b.Right)
			}
			s.sack = append([]packet.SACKBlock{{Left: far.Add(thinMSS), Right: far.Add(2 * thinMSS)}}, s.sack...)
			s.sack = s.sack[:min(len(s.sack), 6)]
		}
		seg.opt = blocks(s.sack...)
	case 3:
		advance()
		seg.opt = blocks(block(s.ack-thinMSS, s.ack)) // DSACK
	case 4:
		advance()
		seg.flags = []uint8{packet.FlagECE, packet.FlagPSH, packet.FlagCWR}[s.rng.IntN(3)]
	case 5:
		seg.win = s.win + 8*128
		s.win = seg.win
	case 6:
		advance()
		seg.win, s.win = -1, -1
	case 7:
		s.win = thinWin
		seg.win = s.win
	case 8:
		advance()
		seg.opt = []byte{77, 4, 0, 0}
	case 9:
		advance()
		seg.tos = 1
	default:
		advance()
		must = false
	}
	seg.ack = s.ack
	win := max(s.win, 0) / 128 * 128
	edge := s.ack + win
	sack := seg.opt != nil && seg.opt[2] == packet.OptSACK
	must = must || win < 2*thinMSS || edge < s.edge || s.loss && !sack
	switch {
	case sack:
		s.loss, s.told = true, s.told+1
	case s.ack > before:
		s.loss, s.told, s.sack = false, 0, nil
	case dup:
		s.loss = true
	}
	s.edge = edge
	s.say(seg, must, dup)
}

// Random schedules under virtual time. What the source gets is a part of what
// the receiver said, in order and byte for byte; news comes at once; and no
// state comes later than hold.
func TestThinSchedules(t *testing.T) {
	t.Parallel()
	runs := few(schedules)
	dropped := uint64(0)
	for seed := range runs {
		rng := rand.New(rand.NewPCG(seed, 7))
		rate := []float64{0, 600, 1000, 2500, 20000}[rng.IntN(5)]
		rtt := time.Duration(rng.IntN(400)) * time.Millisecond
		s := &thinSchedule{thinLab: newThinLab(t, rate, rtt), rng: rng, win: thinWin}
		if rng.IntN(2) == 0 {
			s.key = packet.FlowKey{Proto: packet.ProtoTCP, SrcPort: 80, DstPort: 4000}
			s.key.Src[0], s.key.Dst[0] = 0x20, 0x20
		}
		for range 20 + rng.IntN(200) {
			switch rng.IntN(8) {
			case 0:
				s.wait(time.Duration(rng.Int64N(int64(60 * time.Millisecond))))
			case 1:
				s.th.data(s.now, thinISN.Add(s.sent))
			default:
				s.wait(time.Duration(rng.Int64N(int64(time.Millisecond))))
			}
			if rng.IntN(500) == 0 {
				rtt = time.Duration(rng.IntN(400)) * time.Millisecond
				s.th.set(rate, rtt, rtt*time.Duration(rng.IntN(2)))
			}
			s.step()
		}
		hold := s.th.hold
		s.wait(hold)
		if s.th.n > 0 {
			t.Errorf("seed %d: something is still owed after %v", seed, hold)
		}
		s.verify(seed)
		dropped += s.th.dropped
		if got := uint64(len(s.said) - len(s.got)); got != s.th.dropped {
			t.Errorf("seed %d: %d never arrived, %d are counted", seed, got, s.th.dropped)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if dropped == 0 {
		t.Error("nothing was dropped in all schedules")
	}
	t.Logf("%d schedules, %d ACKs dropped", runs, dropped)
}

func (s *thinSchedule) verify(seed uint64) {
	s.t.Helper()
	// Order, and equality with what the receiver sent. Each has a timestamp of
	// its own, so no two are equal.
	j := 0
	index := make([]int, 0, len(s.got))
	for i := range s.got {
		for j < len(s.said) && !bytes.Equal(s.said[j].packet, s.got[i].packet) {
			j++
		}
		if j == len(s.said) {
			s.t.Errorf("seed %d: segment %d at the source was never sent, or out of order: % x", seed, i, s.got[i].packet)
			return
		}
		index = append(index, j)
		j++
	}
	longest := max(maxHold, s.th.hold)
	if s.th.rate == 0 {
		longest = maxAutoHold
	}
	for i, said := range s.said {
		k, found := slices.BinarySearch(index, i)
		if (said.must || said.dup) && (!found || s.got[k].at != said.at) {
			s.t.Errorf("seed %d: segment %d at %v had to go at once", seed, i, said.at)
		}
		if k == len(index) || s.got[k].at > said.at+longest {
			s.t.Errorf("seed %d: the state of segment %d came later than %v", seed, i, longest)
			return
		}
		// Each block arrives, or an acknowledgement of it.
		for _, b := range said.blocks {
			ok := false
			for g := 0; g < len(s.got) && s.got[g].at <= said.at+longest && !ok; g++ {
				from := s.said[index[g]]
				ok = thinISN.Add(from.ack).AtLeast(b.Right) || slices.ContainsFunc(from.blocks, func(c packet.SACKBlock) bool {
					return b.Left.AtLeast(c.Left) && b.Right.AtMost(c.Right)
				})
			}
			if !ok {
				s.t.Errorf("seed %d: block %v of segment %d did not arrive in %v", seed, b, i, longest)
				return
			}
		}
		// A duplicate is one only after what it repeats.
		if said.dup && i > 0 && s.said[i-1].ack == said.ack && (k == 0 || index[k-1] != i-1) {
			s.t.Errorf("seed %d: duplicate %d came without what it repeats", seed, i)
		}
	}
}
