package fair

import (
	"fmt"
	"testing"
	"time"
)

func TestLinesOncePerKindAndNeighbour(t *testing.T) {
	l := NewLines(10 * time.Second)
	said := 0
	for i := range 1000 { // 10 ms apart
		if _, ok := l.Say(epoch.Add(time.Duration(i)*10*time.Millisecond), key(1, 1), "checksum"); ok {
			said++
		}
	}
	if said != 1 {
		t.Errorf("%d lines in 10 s, want one", said)
	}
	for _, other := range []struct {
		of   Key
		what string
	}{{key(1, 1), "length"}, {key(1, 2), "checksum"}, {key(2, 1), "checksum"}} {
		if _, ok := l.Say(epoch, other.of, other.what); !ok {
			t.Errorf("%+v was held back by another's line", other)
		}
	}
	if n, ok := l.Say(epoch.Add(10*time.Second), key(1, 1), "checksum"); !ok || n != 999 {
		t.Errorf("%v with %d suppressed, want a line with 999", ok, n)
	}
	if n, ok := l.Say(epoch.Add(25*time.Second), key(1, 1), "checksum"); !ok || n != 0 {
		t.Errorf("%v with %d suppressed, want a line with none", ok, n)
	}
}

// However many neighbours there are, the lines and the table are bounded.
func TestLinesAreBounded(t *testing.T) {
	l := NewLines(10 * time.Second)
	said, most := 0, 100_000
	if testing.Short() {
		most = 20_000
	}
	for i := range most {
		k := key(i>>8, byte(i))
		if _, ok := l.Say(epoch.Add(time.Duration(i)*50*time.Microsecond), k, fmt.Sprint("kind", i%3)); ok {
			said++
		}
	}
	if said > maxLines+3 || len(l.said) > maxLines+3 {
		t.Errorf("%d lines in 5 s at most, %d entries", said, len(l.said))
	}
	if _, ok := l.Say(epoch.Add(time.Hour), key(1, 1), "kind9"); !ok || len(l.said) > maxLines {
		t.Errorf("%d entries: those of an hour ago are forgotten", len(l.said))
	}
}
