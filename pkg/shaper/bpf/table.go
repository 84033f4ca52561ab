package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// layout is the version of the maps' keys and values. Pins of another version
// are not adopted but replaced.
const layout = "3"

// The maps' pins in a Table's directory. The bpf file system reserves names with
// dots.
const (
	flowsPin   = "flows-" + layout
	groupsPin  = "groups-" + layout
	leasePin   = "lease-" + layout
	partialPin = "partial-" + layout
	dscpsPin   = "dscps-" + layout
	framesPin  = "frames-" + layout
)

// mapPin tells whether a pin is that of one of our maps.
func mapPin(name string) bool {
	return name == flowsPin || name == groupsPin || name == leasePin || name == partialPin || name == dscpsPin ||
		name == framesPin
}

// Table is the kernel's table of treatments and the programs that obey it.
// Its methods may not be called concurrently, but for Renew, Counters and Each.
type Table struct {
	dir     string
	spec    *ebpf.CollectionSpec
	flows   *ebpf.Map
	groups  *ebpf.Map
	lease   *ebpf.Map
	partial *ebpf.Map
	dscps   *ebpf.Map
	// Of the packets that are passing, so that it is not pinned: who adopts the table
	// begins with another, as its programs replace the old ones.
	fragments *ebpf.Map
	frames    *ebpf.Map  // nil where no frames are learned
	rows      [kinds]int // that name less than the five-tuple
	// The programs that change a flow, a group or a code point's row in place.
	change, changeGroup, changeLevel *ebpf.Program

	// Gone is what the rows that are not there any more had counted.
	Gone  Counters
	links map[string]*attachment
	found map[string]*ebpf.Program // at the links that were adopted, until Settle
	alive int                      // directory held locked, so that nobody sweeps it while its interfaces are gone; -1 if not
	// Adopted tells that the table was found, not made.
	Adopted bool
}

// Open makes the table for this many flows in the pin directory, or adopts
// what an earlier process left there. A table of another size is copied. So is that
// of frames, which is only there for programs that learn them: 0 is none.
func Open(dir string, flows, frames int) (_ *Table, err error) {
	unlock, err := lockPins()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := ensureMounted(); err != nil {
		return nil, err
	}
	if err := sweep(filepath.Dir(dir), dir); err != nil {
		return nil, err
	}
	_, statErr := os.Stat(dir)
	t, err := open(dir, flows, frames)
	if err != nil {
		if errors.Is(statErr, fs.ErrNotExist) { // leave nothing that was not there
			err = errors.Join(err, removePins(dir))
		}
		return nil, err
	}
	return t, nil
}

func open(dir string, flows, frames int) (*Table, error) {
	spec, err := loadTreatment()
	if err != nil {
		return nil, fmt.Errorf("the embedded eBPF object: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, explain("make the pin directory", err)
	}
	for _, name := range []string{treatmentMapFlows, treatmentMapGroups} {
		spec.Maps[name].MaxEntries = uint32(flows)
	}
	spec.Maps[treatmentMapFrames].MaxEntries = uint32(frames)
	t := &Table{dir: dir, spec: spec, links: map[string]*attachment{}, found: map[string]*ebpf.Program{}, alive: -1}
	for _, step := range []func() error{t.hold, t.openMaps, t.loadChange, t.adoptLinks} {
		if err := step(); err != nil {
			return nil, errors.Join(err, t.Close())
		}
	}
	return t, nil
}

func (t *Table) hold() error {
	var err error
	t.alive, err = lockDir(t.dir, unix.LOCK_SH|unix.LOCK_NB)
	return err
}

func (t *Table) openMaps() error {
	var err error
	// Groups first: flows that name one that is not there are policed each for
	// itself.
	if t.groups, _, err = openMap(t.spec.Maps[treatmentMapGroups], filepath.Join(t.dir, groupsPin), copyGroups); err != nil {
		return err
	}
	if t.flows, t.Adopted, err = openMap(t.spec.Maps[treatmentMapFlows], filepath.Join(t.dir, flowsPin), copyFlows); err != nil {
		return err
	}
	if t.lease, _, err = openMap(t.spec.Maps[treatmentMapLease], filepath.Join(t.dir, leasePin), nil); err != nil {
		return err
	}
	if t.partial, _, err = openMap(t.spec.Maps[treatmentMapPartial], filepath.Join(t.dir, partialPin), nil); err != nil {
		return err
	}
	if t.dscps, _, err = openMap(t.spec.Maps[treatmentMapDscps], filepath.Join(t.dir, dscpsPin), nil); err != nil {
		return err
	}
	if t.fragments, err = ebpf.NewMap(t.spec.Maps[treatmentMapFragments]); err != nil {
		return explain("make the map of fragments", err)
	}
	if err := t.openFrames(); err != nil {
		return err
	}
	return t.countPartial()
}

// Sized tells whether the table is one for this many flows and frames.
func (t *Table) Sized(flows, frames int) bool {
	return t.spec.Maps[treatmentMapFlows].MaxEntries == uint32(flows) && t.spec.Maps[treatmentMapFrames].MaxEntries == uint32(frames)
}

func (t *Table) openFrames() error {
	spec := t.spec.Maps[treatmentMapFrames]
	if spec.MaxEntries == 0 {
		return t.unpin(framesPin) // an earlier process may have had some
	}
	var err error
	t.frames, _, err = openMap(spec, filepath.Join(t.dir, framesPin), copyFrames)
	return err
}

// openMap takes the pinned map if it is like spec, and makes it if not: filled
// from the pinned one where that has the same values and another size.
func openMap(spec *ebpf.MapSpec, pin string, fill func(to, from *ebpf.Map) error) (m *ebpf.Map, adopted bool, err error) {
	old, err := ebpf.LoadPinnedMap(pin, nil)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, false, explain("open the pinned map "+pin, err)
	case spec.Compatible(old) == nil:
		return old, true, nil
	default:
		defer func() { err = errors.Join(err, old.Close()) }()
	}
	m, err = ebpf.NewMap(spec)
	if err != nil {
		return nil, false, explain("make the map "+spec.Name, err)
	}
	if old != nil {
		if fill != nil && old.KeySize() == m.KeySize() && old.ValueSize() == m.ValueSize() && old.Type() == m.Type() {
			if err := fill(m, old); err != nil {
				return nil, false, errors.Join(err, m.Close())
			}
			adopted = true
		}
		if err := os.Remove(pin); err != nil {
			return nil, false, errors.Join(err, m.Close())
		}
	}
	if err := m.Pin(pin); err != nil {
		return nil, false, errors.Join(explain("pin the map "+spec.Name, err), m.Close())
	}
	return m, adopted, nil
}

func copyFlows(to, from *ebpf.Map) error {
	return copyMap[treatmentFlowKey](to, from, func(v *treatmentFlow) { v.Lock.Val = 0 })
}

func copyGroups(to, from *ebpf.Map) error {
	return copyMap[uint32](to, from, func(v *treatmentGroup) { v.Lock.Val = 0 })
}

// copyMap fills a table of another size. What no longer fits is an ordinary
// flow from then on.
func copyMap[K, V any](to, from *ebpf.Map, unlock func(*V)) error {
	var key K
	var value V
	it := from.Iterate()
	for it.Next(raw(&key), raw(&value)) {
		unlock(&value)
		err := to.Update(raw(&key), raw(&value), ebpf.UpdateAny)
		if errors.Is(err, unix.E2BIG) {
			break
		}
		if err != nil {
			return fmt.Errorf("copy a treatment: %w", err)
		}
	}
	if err := it.Err(); err != nil && !errors.Is(err, ebpf.ErrIterationAborted) {
		return fmt.Errorf("copy the treatments: %w", err)
	}
	return nil
}

func (t *Table) loadChange() error {
	var err error
	if t.change, err = t.load(treatmentProgChange); err != nil {
		return err
	}
	if t.changeGroup, err = t.load(treatmentProgChangeGroup); err != nil {
		return err
	}
	t.changeLevel, err = t.load(treatmentProgChangeLevel)
	return err
}

// load loads one program with this table's maps.
func (t *Table) load(name string) (*ebpf.Program, error) {
	spec := t.spec.Copy()
	for other := range spec.Programs {
		if other != name {
			delete(spec.Programs, other)
		}
	}
	maps := map[string]*ebpf.Map{
		treatmentMapFlows: t.flows, treatmentMapGroups: t.groups, treatmentMapLease: t.lease, treatmentMapPartial: t.partial,
		treatmentMapDscps: t.dscps, treatmentMapFragments: t.fragments,
	}
	if t.frames != nil {
		maps[treatmentMapFrames] = t.frames
	} else {
		delete(spec.Maps, treatmentMapFrames)
	}
	c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: maps})
	if err != nil {
		return nil, explain("load the eBPF program "+name, err)
	}
	p := c.DetachProgram(name)
	c.Close()
	return p, nil
}

// Put installs a treatment or changes it in place. A change keeps the levels
// of the buckets and the counters. In a group, which must be there, the flow is
// policed together with the others; group 0 is none.
func (t *Table) Put(ifindex int, tr plan.Treatment, class, excess plan.ClassID, group uint32) error {
	args := treatmentChangeArgs{Key: keyOf(ifindex, tr.Key), Spec: specOf(tr, class, excess, group)}
	found, err := t.change.Run(&ebpf.RunOptions{Context: raw(&args)})
	if err != nil {
		return explain("change a treatment", err)
	}
	if found == 0 {
		return nil
	}
	if err := t.counted(tr.Key, 1); err != nil {
		return err
	}
	value := treatmentFlow{Spec: args.Spec, Levels: args.Spec.full()}
	if err := t.flows.Update(raw(&args.Key), raw(&value), ebpf.UpdateNoExist); err != nil {
		return errors.Join(explain("install a treatment", err), t.counted(tr.Key, -1))
	}
	return nil
}

// Delete removes a treatment: the flow is an ordinary one from the next packet on.
func (t *Table) Delete(ifindex int, k packet.FlowKey) error {
	_, err := t.Take(ifindex, k)
	return err
}

// Take is Delete, and returns what the row has counted: the kernel reads it as it
// removes the row.
func (t *Table) Take(ifindex int, k packet.FlowKey) (Counters, error) {
	key := keyOf(ifindex, k)
	var v treatmentFlow
	if err := t.flows.LookupAndDeleteWithFlags(raw(&key), raw(&v), ebpf.LookupLock); err != nil {
		return Counters{}, explain("remove a treatment", err)
	}
	c := v.counters()
	t.Gone.Add(c)
	return c, t.counted(k, -1)
}

// Counters reads those of one treatment.
func (t *Table) Counters(ifindex int, k packet.FlowKey) (Counters, error) {
	v, err := t.read(ifindex, k)
	return v.counters(), err
}

func (t *Table) read(ifindex int, k packet.FlowKey) (treatmentFlow, error) {
	key := keyOf(ifindex, k)
	var v treatmentFlow
	err := t.flows.LookupWithFlags(raw(&key), raw(&v), ebpf.LookupLock)
	return v, explain("read a treatment", err)
}

// Entry is one row of the table.
type Entry struct {
	Ifindex   int
	Treatment plan.Treatment // without the interface's name
	Class     plan.ClassID
	Excess    plan.ClassID
	Number    uint32 // of its group, 0: none
	Counters  Counters
}

// Each reads the whole table. Entries that come or go meanwhile may be missed.
func (t *Table) Each(f func(Entry)) error {
	groups := map[uint32]Group{}
	if err := t.EachGroup(func(g Group) { groups[g.Number] = g }); err != nil {
		return err
	}
	return eachOf(t.flows, func(key treatmentFlowKey, v *treatmentFlow) {
		e := Entry{
			Ifindex: int(key.Ifindex), Treatment: v.Spec.treatment(key.flowKey()),
			Class: plan.ClassID(v.Spec.Class), Excess: plan.ClassID(v.Spec.Excess), Counters: v.counters(),
		}
		if g, ok := groups[v.Spec.Group]; ok && g.Ifindex == e.Ifindex {
			e.Number, e.Treatment = g.Number, e.Treatment.WithTSpec(g.Treatment)
			e.Treatment.Group = g.Treatment.Group
		}
		f(e)
	})
}

// eachOf reads a map in batches.
func eachOf[K, V any](m *ebpf.Map, f func(K, *V)) error {
	const chunk = 512
	keys, values := make([]K, chunk), make([]V, chunk)
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookup(&cursor, keys, values, &ebpf.BatchOptions{ElemFlags: uint64(ebpf.LookupLock)})
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return explain("read the treatments", err)
		}
		for i := range n {
			f(keys[i], &values[i])
		}
		if err != nil {
			return nil
		}
	}
}
