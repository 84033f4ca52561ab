package etcd

import (
	"strings"
	"testing"
)

func TestCheckName(t *testing.T) {
	for _, s := range []string{"a", "edge-1.example", "Region_2", strings.Repeat("x", 64)} {
		if err := CheckName(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", "a/b", "a:burst", "a b", "ä", strings.Repeat("x", 65)} {
		if CheckName(s) == nil {
			t.Errorf("%q is taken for a name", s)
		}
	}
}

// What other boxes write is read for what it is, or refused: never a panic, never
// a sum that could make others overflow.
func FuzzLine(f *testing.F) {
	for _, s := range []string{
		`{"sum":1000,"limit":2000}`, `{"sum":1,"asked":2,"limit":3}`, `{"sum":-1}`, `{"sum":1125899906842625}`, `{"asked":1e300}`, `[]`, ``, `null`, `{"sum":"1"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := parseLine(b)
		if err != nil {
			return
		}
		if l.Sum < 0 || l.Asked < 0 || l.counts() > maxSum || l.counts() < l.Sum {
			t.Fatalf("%q is %+v", b, l)
		}
		again, err := parseLine([]byte(text(l)))
		if err != nil || again != l {
			t.Fatalf("%+v is written as %s, which is %+v, %v", l, text(l), again, err)
		}
	})
}

// A key is taken apart into what it was made of, or it is none of ours.
func FuzzKey(f *testing.F) {
	for _, s := range []string{"/q/sums/a/b", "/q/sums/a:burst/b", "/q/sums/a/b/c", "/q/sums//b", "/q/sums/a/", "/q/boxes/b", "/qx/sums/a/b", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		k := keys{prefix: "/q"}
		account, box := k.parse(key)
		if box == "" {
			return
		}
		k.box = box
		if k.own(account) != key {
			t.Fatalf("%q is account %q and box %q, whose key is %q", key, account, box, k.own(account))
		}
	})
}
