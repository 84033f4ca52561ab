package bpf

import (
	"sync"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// Looking for a frame is done for every packet that the box sends.
func TestReadingFramesDoesNotAllocate(t *testing.T) {
	l := newLearner(t, 1000)
	l.arrive(1, frame(tcp4, 0, 100))
	there, missing := tcp4, tcp4.Reverse()
	var f packet.Frame
	if n := testing.AllocsPerRun(1000, func() {
		if !l.Frame(&there, &f) || l.Frame(&missing, &f) {
			t.Fatal("known is what should not be, or the other way round")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// A reader of a table without frames, or of none, knows nothing.
func TestFramesOfNoTable(t *testing.T) {
	newNamespace(t)
	r := NewFrames()
	var f packet.Frame
	if r.Frame(&tcp4, &f) {
		t.Error("a reader of nothing knows something")
	}
	r.Use(openTable(t, pinDir(t), 10))
	if r.Frame(&tcp4, &f) {
		t.Error("a table without frames has some")
	}
}

// What was learned survives the process, and another size.
func TestFramesAreAdopted(t *testing.T) {
	ifindex := newNamespace(t)
	dir := pinDir(t)
	first, err := Open(dir, 10, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Attach(Learn, ifindex, plan.Program{Attached: true, Current: true, Header: 14}); err != nil {
		t.Fatal(err)
	}
	l := &learner{Frames: NewFrames(), t: t, prog: first.links[pinName(Learn, ifindex)].prog}
	l.Use(first)
	l.arrive(ifindex, frame(tcp4, 0, 100))
	l.Use(nil)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1000, 2000, 500} {
		again, err := Open(dir, 10, size)
		if err != nil {
			t.Fatal(err)
		}
		l.Use(again)
		if f := l.known(tcp4); f.Port != ifindex || f.Dst != frameDst {
			t.Errorf("of the next process, with room for %d: %+v", size, f)
		}
		if s := again.State(Learn, ifindex); !s.Attached || s.Current {
			t.Errorf("the program: %+v", s)
		}
		l.Use(nil)
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
	none := openTable(t, dir, 10)
	if l.Use(none); l.known(tcp4).Port != 0 {
		t.Error("a table that does not learn has frames")
	}
	if err := none.Detach(Learn, ifindex); err != nil {
		t.Error(err)
	}
}

// The kernel may give an entry to another key while it is read: what is read then is
// no frame of the key that was asked for.
func TestFramesOfAnotherKeyAreNotTaken(t *testing.T) {
	l := newLearner(t, 1000)
	l.arrive(1, frame(tcp4, 0, 100))
	other := tcp4
	other.SrcPort++
	x := <-l.idle
	var value treatmentFrame
	mine, its := frameKey(&tcp4), frameKey(&other)
	err := x.frames.Lookup(raw(&mine), raw(&value))
	if err == nil {
		err = x.frames.Update(raw(&its), raw(&value), ebpf.UpdateAny)
	}
	l.idle <- x
	if err != nil || l.known(tcp4).Port == 0 {
		t.Fatalf("the frame is not known: %v", err)
	}
	if l.known(other).Port != 0 {
		t.Error("the frame of one connection is taken for that of another")
	}
	// All of a key counts in it, and which address is which.
	seen := map[uint32]bool{}
	for _, k := range []packet.FlowKey{tcp4, tcp4.Reverse(), tcp4.PairKey(), tcp4.Reverse().PairKey(), other, tcp6, tcp6.Reverse(), key4, key6} {
		f := frameKey(&k)
		if seen[f.check()] {
			t.Errorf("%s is folded to what another key is", k)
		}
		seen[f.check()] = true
	}
}

// Readers go on while a reload brings another table, and see what was learned in the
// one or in the other.
func TestFramesAreReadWhileTablesChange(t *testing.T) {
	newNamespace(t)
	dir := pinDir(t)
	frames := NewFrames()
	stop := make(chan struct{})
	var readers sync.WaitGroup
	defer readers.Wait()
	defer close(stop)
	for range 3 {
		readers.Go(func() {
			var f packet.Frame
			for {
				select {
				case <-stop:
					return
				default:
				}
				if frames.Frame(&tcp4, &f) && (f.Port != 2 || f.Dst != frameDst) {
					t.Errorf("read %+v", f)
					return
				}
			}
		})
	}
	var old *Table
	for i := range 20 {
		table, err := Open(dir, 10, 100+i%3)
		if err != nil {
			t.Fatal(err)
		}
		frames.Use(table)
		if old != nil {
			if err := old.Close(); err != nil {
				t.Fatal(err)
			}
		}
		old = table
		if i == 0 {
			prog, err := table.loadFor(Learn, plan.Program{Header: 14})
			if err != nil {
				t.Fatal(err)
			}
			(&learner{Frames: frames, t: t, prog: prog}).arrive(2, frame(tcp4, 0, 100))
			if err := prog.Close(); err != nil {
				t.Fatal(err)
			}
		}
		var f packet.Frame
		if !frames.Frame(&tcp4, &f) {
			t.Errorf("table %d: it is not known any more", i)
		}
	}
	frames.Use(nil)
	if err := old.Remove(); err != nil {
		t.Error(err)
	}
}
