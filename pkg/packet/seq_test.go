package packet

import "testing"

// RFC 9293 section 3.4: comparisons modulo 2^32.
func TestRFC9293_3_4_Seq(t *testing.T) {
	for _, c := range []struct {
		a, b Seq
		diff int
	}{
		{0, 0, 0},
		{5, 3, 2},
		{0, 0xffffffff, 1},
		{0xfffffff0, 0x10, -0x20},
		{0x80000000, 1, 0x7fffffff},
		{0x7fffffff, 0xffffffff, -0x80000000},
	} {
		if got := c.a.Diff(c.b); got != c.diff {
			t.Errorf("%x - %x = %d, want %d", c.a, c.b, got, c.diff)
		}
		if c.a.After(c.b) != (c.diff > 0) || c.a.Before(c.b) != (c.diff < 0) ||
			c.a.AtMost(c.b) != (c.diff <= 0) || c.a.AtLeast(c.b) != (c.diff >= 0) {
			t.Errorf("%x and %x are in the wrong order", c.a, c.b)
		}
		if c.b.Add(c.diff) != c.a {
			t.Errorf("%x + %d = %x", c.b, c.diff, c.b.Add(c.diff))
		}
	}
	if MaxSeq(0xfffffff0, 5) != 5 || MinSeq(0xfffffff0, 5) != 0xfffffff0 {
		t.Error("the later of two is taken without the wrap")
	}
	if s := Seq(0xfffffffe); !Seq(1).InWindow(s, 4) || Seq(2).InWindow(s, 4) || s.Add(-1).InWindow(s, 4) || s.InWindow(s, 0) {
		t.Error("InWindow")
	}
}
