package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// Direction is where on an interface a program hangs.
type Direction string

// The directions; they are parts of the pins' names.
const (
	Egress  Direction = "egress"
	Ingress Direction = "ingress"
	Learn   Direction = "learn" // at the ingress, too, but another program
)

// attachment is a program at an interface.
type attachment struct {
	link  link.Link
	prog  *ebpf.Program // nil if an earlier process loaded it
	state plan.Program
}

// linkPin tells whether a pin is that of one of our links.
func linkPin(name string) bool {
	for _, d := range []Direction{Egress, Ingress, Learn} {
		if strings.HasPrefix(name, string(d)+"-") {
			return true
		}
	}
	return false
}

func pinName(d Direction, ifindex int) string { return fmt.Sprintf("%s-%d", d, ifindex) }

// adoptLinks takes over the links that are pinned, and unpins those whose
// interface is gone.
func (t *Table) adoptLinks() error {
	entries, err := os.ReadDir(t.dir)
	if err != nil {
		return fmt.Errorf("read the pin directory: %w", err)
	}
	for _, e := range entries {
		name, pin := e.Name(), filepath.Join(t.dir, e.Name())
		if mapPin(name) {
			continue
		}
		if !linkPin(name) {
			// A map of another layout: the links that used it are updated
			// to the new programs, or go, below.
			if err := os.Remove(pin); err != nil {
				return fmt.Errorf("unpin %s: %w", name, err)
			}
			continue
		}
		l, err := link.LoadPinnedLink(pin, nil)
		if err != nil {
			return explain("adopt the link "+name, err)
		}
		if attached(l) == 0 {
			if err := errors.Join(os.Remove(pin), l.Close()); err != nil {
				return fmt.Errorf("unpin %s: %w", name, err)
			}
			continue
		}
		t.links[name] = &attachment{link: l, state: plan.Program{Attached: true}}
		prog, err := programOf(l)
		switch {
		case errors.Is(err, unix.EPERM): // see PutBack
		case err != nil:
			return explain("adopt the program "+name, err)
		default:
			t.found[name] = prog
		}
	}
	return nil
}

// programOf opens the program that hangs at a link.
func programOf(l link.Link) (*ebpf.Program, error) {
	info, err := l.Info()
	if err != nil {
		return nil, err
	}
	return ebpf.NewProgramFromID(info.Program)
}

// attached returns the index of the interface that a link is at, 0 if none.
func attached(l link.Link) uint32 {
	info, err := l.Info()
	if err != nil {
		return 0
	}
	if tcx := info.TCX(); tcx != nil {
		return tcx.Ifindex
	}
	return 0
}

// State tells what is attached to an interface.
func (t *Table) State(d Direction, ifindex int) plan.Program {
	a, ok := t.links[pinName(d, ifindex)]
	if !ok || attached(a.link) == 0 {
		return plan.Program{}
	}
	return a.state
}

// Attach hangs a program at an interface of this thread's network namespace.
// Where one of ours hangs already it is replaced in one step: no packet passes
// without.
func (t *Table) Attach(d Direction, ifindex int, want plan.Program) error {
	prog, err := t.loadFor(d, want)
	if err != nil {
		return err
	}
	return t.hang(d, ifindex, prog, want)
}

// PutBack hangs the program at an interface again that was found there. The kernel
// hands it out to processes with CAP_SYS_ADMIN only; to others ours stays, which works
// with the same table.
func (t *Table) PutBack(d Direction, ifindex int) error {
	found := t.found[pinName(d, ifindex)]
	if found == nil {
		return nil
	}
	prog, err := found.Clone()
	if err != nil {
		return explain("put back the program "+pinName(d, ifindex), err)
	}
	return t.hang(d, ifindex, prog, plan.Program{Attached: true})
}

// Settle lets go of the programs that were found: they will not be put back.
func (t *Table) Settle() error {
	var errs []error
	for _, p := range t.found {
		errs = append(errs, p.Close())
	}
	clear(t.found)
	return errors.Join(errs...)
}

func (t *Table) hang(d Direction, ifindex int, prog *ebpf.Program, state plan.Program) error {
	name := pinName(d, ifindex)
	if a := t.links[name]; a != nil && attached(a.link) != 0 {
		if err := a.link.Update(prog); err != nil {
			return errors.Join(explain("replace the program "+name, err), prog.Close())
		}
		old := a.prog
		a.prog, a.state = prog, state
		if old != nil {
			return old.Close()
		}
		return nil
	}
	if err := t.Detach(d, ifindex); err != nil { // a link whose interface is gone
		return errors.Join(err, prog.Close())
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: prog, Attach: attachType(d)})
	if err != nil {
		return errors.Join(explain("attach the program "+name, err), prog.Close())
	}
	if err := l.Pin(filepath.Join(t.dir, name)); err != nil {
		return errors.Join(explain("pin the link "+name, err), l.Close(), prog.Close())
	}
	t.links[name] = &attachment{link: l, prog: prog, state: state}
	return nil
}

func attachType(d Direction) ebpf.AttachType {
	if d == Egress {
		return ebpf.AttachTCXEgress
	}
	return ebpf.AttachTCXIngress
}

// loadFor loads the program with an interface's constants.
func (t *Table) loadFor(d Direction, want plan.Program) (*ebpf.Program, error) {
	name := map[Direction]string{Egress: treatmentProgEgress, Ingress: treatmentProgIngress, Learn: treatmentProgLearn}[d]
	byDSCP := uint32(0)
	if want.ByDSCP {
		byDSCP = 1
	}
	prioritized := uint32(0)
	if want.PCP != (plan.PCP{}) {
		prioritized = 1
	}
	for constant, value := range map[string]any{
		treatmentVarLinkHeader: want.Header, treatmentVarControlClass: uint32(want.Control), treatmentVarByDscp: byDSCP,
		treatmentVarPrioritized: prioritized, treatmentVarPriorities: want.PCP,
	} {
		if err := t.spec.Variables[constant].Set(value); err != nil {
			return nil, fmt.Errorf("set a constant of the program: %w", err)
		}
	}
	return t.load(name)
}

// Detach takes our program off an interface; the interface may be gone.
func (t *Table) Detach(d Direction, ifindex int) error {
	name := pinName(d, ifindex)
	a := t.links[name]
	if a == nil {
		return nil
	}
	delete(t.links, name)
	err := t.unpin(name)
	// Closing the last reference would detach as well, but a little later.
	if derr := a.link.Detach(); derr != nil && !errors.Is(derr, unix.ENOLINK) {
		err = errors.Join(err, derr)
	}
	err = errors.Join(err, a.close())
	if err != nil {
		return fmt.Errorf("detach the program %s: %w", name, err)
	}
	return nil
}

func (a *attachment) close() error {
	if a.prog == nil {
		return a.link.Close()
	}
	return errors.Join(a.link.Close(), a.prog.Close())
}

// Interfaces lists the indexes of the interfaces where our programs hang.
func (t *Table) Interfaces() []int {
	seen := map[int]bool{}
	for _, a := range t.links {
		if i := attached(a.link); i != 0 {
			seen[int(i)] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// Prune forgets the links whose interface is gone.
func (t *Table) Prune() error {
	var errs []error
	for name, a := range t.links {
		if attached(a.link) == 0 {
			delete(t.links, name)
			errs = append(errs, t.unpin(name), a.close())
		}
	}
	return errors.Join(errs...)
}

// unpin removes a pin, which somebody else may have done already.
func (t *Table) unpin(name string) error {
	err := os.Remove(filepath.Join(t.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
