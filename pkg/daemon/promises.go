package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/promise"
	"github.com/qosproxy/qosproxy/pkg/statefile"
	"github.com/qosproxy/qosproxy/pkg/tcpcheat"
)

// Names of the file, in state_dir and, with a hash of that behind the first word, in
// memory.
const (
	promiseKept = "promises"
	promiseBad  = ".bad"
)

const (
	// promiseAge is how old a record may be: a connection that owes something has
	// something done at least every minute or two, and one that does not needs nobody.
	promiseAge = 5 * time.Minute
	// promiseRoom is for how many slots memory is taken at once.
	promiseRoom = 4096
)

// promises keeps what cheated connections were promised in a file that
// is mapped: who writes it is the worker of the connection, by storing into
// memory, and when the process is killed the kernel has it. The lock is about who
// has which slot.
//
// The file has to survive the process and nothing else, so it is in a file system in
// memory: with one on a disk a store may wait for it.
type promises struct {
	dir    string       // state_dir
	memory []string     // directories in memory, the best first; without one it is in state_dir
	claim  func() error // makes state_dir this daemon's
	sides  func(packet.FlowKey) (in, out int)
	now    func() time.Time
	since  time.Time // the promises' time is since then: the start of the machine, by a clock that nobody sets
	boot   [16]byte
	slots  int
	log    *zap.Logger

	mu     sync.Mutex
	file   *promise.File // nil: there is none yet
	mem    []byte
	disk   *os.File
	at     string   // its path
	found  []string // those of an earlier process, until there is a new one
	room   int      // slots that have their memory
	failed error    // why there is none
	taken  int
	next   int                    // slots from here on were never used
	free   []int                  // those before that are
	held   map[packet.FlowKey]int // by canonical key: slots that are kept for connections of an earlier process
	gen    uint64
	left   []promise.Kept // of an earlier process, until they are taken over

	count struct{ full, unrecorded, whole, open, healed, reset, lost counter }
}

func canonical(key packet.FlowKey) packet.FlowKey { k, _ := key.Canonical(); return k }

// paths are where the file may be, the best first. Several boxes of a machine have the
// same directories in memory.
func (k *promises) paths() (list []string) {
	sum := sha256.Sum256([]byte(k.dir))
	for _, dir := range k.memory {
		list = append(list, filepath.Join(dir, promiseKept+"-"+hex.EncodeToString(sum[:8])))
	}
	return append(list, filepath.Join(k.dir, promiseKept))
}

// load reads what an earlier process has left. What cannot be read is set aside.
func (k *promises) load() (err error) {
	for _, path := range k.paths() {
		if _, e := os.Stat(path); errors.Is(e, os.ErrNotExist) || errors.Is(e, unix.ENOTDIR) {
			continue
		}
		e := k.claim()
		if e == nil {
			e = k.read(path)
		}
		if e != nil {
			err = errors.Join(err, fmt.Errorf("promises of an earlier process: %w", e))
		}
	}
	return err
}

func (k *promises) read(path string) error {
	data, err := statefile.ReadAtMost(path, int64(promise.Size(promise.MaxSlots)))
	if err != nil {
		return err
	}
	f, err := promise.Open(data)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
		if e := os.Rename(path, path+promiseBad); e != nil {
			return errors.Join(err, e)
		}
		return fmt.Errorf("%w: it was set aside as %s", err, path+promiseBad)
	}
	left, damaged := f.Read()
	k.gen = max(k.gen, f.Generation)
	if damaged > 0 {
		k.log.Warn("promises of an earlier process: slots that cannot be read are left out", zap.Int("slots", damaged))
	}
	if n := len(left); f.Boot != k.boot {
		k.log.Info("promises from before the machine was started are nobody's", zap.Int("connections", n))
		left = nil
	}
	left = slices.DeleteFunc(left, func(l promise.Kept) bool {
		old := k.now().Sub(k.since)-time.Duration(l.Promise.At)*time.Second > promiseAge
		if old && l.Promise.Open() > 0 {
			k.count.lost.add()
			k.log.Warn("a promise is so old that the ports may be another connection's: it is not looked after", zap.Stringer("flow", l.Key))
		}
		return old
	})
	if len(left) == 0 {
		return os.Remove(path)
	}
	k.left, k.found = append(k.left, left...), append(k.found, path)
	return nil
}

// open makes the file, if there is none yet. Those of an earlier process that may
// still be owed something have their slots in it from the beginning.
func (k *promises) open() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !errors.Is(k.failed, os.ErrClosed) {
		k.failed = nil // it may be possible now
	}
	return k.make()
}

// make is open, but for what has failed already. k.mu is held.
func (k *promises) make() error {
	if k.file != nil || k.failed != nil {
		return k.failed
	}
	k.failed = k.create()
	if k.failed != nil {
		k.log.Warn("promises to the sources of cheated connections are not recorded: if this process is killed, some may hang", zap.Error(k.failed))
	}
	return k.failed
}

// create makes the file in the first place where that can be done.
func (k *promises) create() error {
	if err := k.claim(); err != nil {
		return err
	}
	var errs []error
	paths := k.paths()
	for i, path := range paths {
		inMemory := i < len(paths)-1
		err := k.createAt(path, inMemory)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !inMemory {
			k.log.Warn("what the sources of cheated connections are promised is kept on a disk, which packets may wait for: have a tmpfs at /run or /dev/shm",
				zap.String("file", path), zap.Error(errors.Join(errs...)))
		}
		for _, old := range k.found {
			if old != path {
				_ = os.Remove(old) // what is in it is in the new one; if it stays, it grows old
			}
		}
		k.found = nil
		return nil
	}
	return errors.Join(errs...)
}

func (k *promises) createAt(path string, inMemory bool) (err error) {
	size, room := promise.Size(k.slots), k.slots
	if inMemory {
		room = min(room, promiseRoom)
		if err := ownDir(filepath.Dir(path)); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path+statefile.New, os.O_RDWR|os.O_CREATE|os.O_TRUNC, statefile.Mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", path, errors.Join(err, f.Close(), statefile.IgnoreMissing(os.Remove(path+statefile.New))))
			k.file, k.mem, k.disk = nil, nil, nil
		}
	}()
	if err := f.Truncate(int64(size)); err != nil {
		return err
	}
	if err := reserveSpace(f, promise.Size(room)); err != nil {
		return fmt.Errorf("%d bytes: %w", promise.Size(room), err)
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mapping it: %w", err)
	}
	file, err := promise.Format(mem, promise.Header{Boot: k.boot, Generation: k.gen + 1, Slots: k.slots})
	if err == nil {
		k.file, k.mem, k.disk, k.at, k.room = file, mem, f, path, room
		k.carry()
		err = os.Rename(path+statefile.New, path)
	}
	if err != nil {
		return errors.Join(err, unix.Munmap(mem))
	}
	return nil
}

// memoryDirs are the directories for files in memory: those of this program in file
// systems that are.
func memoryDirs() (list []string) {
	for _, root := range []string{"/run", "/dev/shm"} {
		var st unix.Statfs_t
		if unix.Statfs(root, &st) == nil && st.Type == unix.TMPFS_MAGIC {
			list = append(list, filepath.Join(root, "qosproxy"))
		}
	}
	return list
}

// ownDir makes a directory that nobody else can write to.
func ownDir(dir string) error {
	if err := os.Mkdir(dir, stateDirMod); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("%s is not a directory of this program's user alone: remove it", dir)
	}
	return nil
}

// reserveSpace has the file's blocks there: a store into a mapped file for which
// the disk has no room would end the process.
func reserveSpace(f *os.File, size int) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, int64(size))
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	zeros := make([]byte, 1<<20)
	for size > 0 {
		n, err := f.Write(zeros[:min(size, len(zeros))])
		if err != nil {
			return err
		}
		size -= n
	}
	return nil
}

// carry writes what is still open into the new file. k.mu is held.
func (k *promises) carry() {
	k.held = map[packet.FlowKey]int{}
	k.taken, k.next, k.free = 0, 0, nil
	for i := range k.left {
		l := &k.left[i]
		if l.Promise.Open() == 0 {
			continue
		}
		n, ok := k.slot()
		if !ok {
			k.count.full.add()
			continue
		}
		k.file.Take(n, &l.Fixed)
		k.file.Put(n, &l.Promise)
		k.held[canonical(l.Key)] = n
	}
}

// slot finds an empty one. k.mu is held.
func (k *promises) slot() (n int, ok bool) {
	switch {
	case len(k.free) > 0:
		n = k.free[len(k.free)-1]
		k.free = k.free[:len(k.free)-1]
	case k.next < k.room || k.grow():
		n = k.next
		k.next++
	default:
		return 0, false
	}
	k.taken++
	return n, true
}

// grow takes memory for more slots; false if there is none. k.mu is held.
func (k *promises) grow() bool {
	room := min(k.room+promiseRoom, k.slots)
	if room == k.room || reserveSpace(k.disk, promise.Size(room)) != nil {
		return false
	}
	k.room = room
	return true
}

// Take gives a connection that begins to be cheated its slot. Where there is no
// file, it is cheated without.
func (k *promises) Take(key packet.FlowKey, mode tcpcheat.Mode) (int, bool) {
	in, out := k.sides(key)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.make() != nil {
		k.count.unrecorded.add()
		return -1, true
	}
	if n, ok := k.held[canonical(key)]; ok {
		delete(k.held, canonical(key))
		return n, true
	}
	n, ok := k.slot()
	if !ok {
		k.count.full.add()
		return 0, false
	}
	k.file.Take(n, &promise.Fixed{Key: key, Mode: mode, In: uint32(max(in, 0)), Out: uint32(max(out, 0))})
	return n, true
}

// Put notes how a connection stands; no lock, no system call.
func (k *promises) Put(n int, p *tcpcheat.Promise) { k.file.Put(n, p) }

// Free gives a slot back.
func (k *promises) Free(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.file.Free(n)
	k.free = append(k.free, n)
	k.taken--
}

// owes tells whether an earlier process has left something to look after.
func (k *promises) owes() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.left) > 0
}

// handOver gives away what an earlier process has left.
func (k *promises) handOver() []promise.Kept {
	k.mu.Lock()
	defer k.mu.Unlock()
	left := k.left
	k.left = nil
	return left
}

// drop gives up what is kept of a connection that cannot be looked after.
func (k *promises) drop(key packet.FlowKey) {
	k.mu.Lock()
	n, ok := k.held[canonical(key)]
	delete(k.held, canonical(key))
	k.mu.Unlock()
	if ok {
		k.Free(n)
	}
	k.count.lost.add()
}

// close ends the recording, when no worker runs any more. The file goes with it
// if it says nothing that anybody needs.
func (k *promises) close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.file == nil {
		return nil
	}
	err := errors.Join(unix.Munmap(k.mem), k.disk.Close())
	k.file, k.mem, k.disk, k.failed = nil, nil, nil, os.ErrClosed
	if k.taken == 0 {
		err = errors.Join(err, statefile.IgnoreMissing(os.Remove(k.at)))
		if slices.Contains(k.memory, filepath.Dir(k.at)) {
			_ = os.Remove(filepath.Dir(k.at)) // if no other box has something there
		}
	}
	return err
}

// stats are for the API.
func (k *promises) stats() console.PromiseStats {
	c := &k.count
	return console.PromiseStats{
		Recorded: k.inUse(), Unrecorded: c.unrecorded.get(), Full: c.full.get(),
		Whole: c.whole.get(), Open: c.open.get(), Healed: c.healed.get(), Reset: c.reset.get(), Lost: c.lost.get(),
	}
}

// problem says in a sentence why nothing is recorded, "" if nothing is wrong.
func (k *promises) problem() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.failed == nil {
		return ""
	}
	return fmt.Sprintf("what the sources of cheated connections are promised is not recorded, and some may hang if this process is killed: %v", k.failed)
}

// inUse counts the slots that are taken.
func (k *promises) inUse() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.taken
}
