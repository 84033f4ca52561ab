package shaper

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/qosproxy/qosproxy/pkg/packet"
	"github.com/qosproxy/qosproxy/pkg/shaper/bpf"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
	"github.com/qosproxy/qosproxy/pkg/shaper/tc"
)

// PinRoot is below which every network namespace has its pin directory.
const PinRoot = bpf.Mount + "/qosproxy"

// Options are what a Shaper needs to know beside the plan.
type Options struct {
	Log *zap.Logger // nil: no log
	// PinDir is where the eBPF part is pinned; "" is PinRoot and the network
	// namespace's cookie, which, unlike an inode number, is never used again.
	PinDir string
	// OnCrash is how long treatments stay valid when the process dies; 0 is
	// for ever. It is renewed in the background.
	OnCrash time.Duration
}

// Shaper drives traffic control in one network namespace. It is safe for
// concurrent use.
type Shaper struct {
	mu      sync.Mutex
	options Options
	log     *zap.Logger
	conn    *tc.Conn
	table   *bpf.Table // nil before the first Set
	frames  *bpf.Frames
	owner   *ownership
	plan    plan.Plan
	set     bool // a Set has succeeded: ports is what is in force
	ports   map[string]*port
	gone    []string // interfaces of the plan that the last Set has not found
	// lastGroup is the number that a group was given last.
	lastGroup uint32
	stop      chan struct{}
	stopped   sync.WaitGroup
	closed    bool

	before    func(plan.Op) error // tests make operations fail
	beforeRow func(string) error  // the same for those on the table
}

// port is what the Shaper knows of a managed interface.
type port struct {
	plan.Interface
	facts   plan.Facts
	flows   map[packet.FlowKey]*flow
	groups  map[packet.FlowKey]*group   // by plan.Treatment.Group
	classes map[plan.ClassID]plan.Class // pooled and shared ones, in use or idle, as they are in the kernel
	loads   map[plan.ClassID]plan.Load  // of the shared ones
	taken   map[plan.ClassID]bool       // while a port is being made: the classes in use
	idle    []plan.ClassID
	next    plan.ClassID // the next pooled class to make
	rates   uint64       // sum of the rates of the classes in use, and of the fixed ones
	root    uint64       // the root class's rate
	// What is reserved by DSCP, and what the service levels are by that: classes
	// whose rates are not in rates, and rows of the table of code points.
	reserved plan.Sums
	levels   plan.Port
	found    plan.Sums // of an aggregate that an earlier process left: levels have it until Reconcile
}

// flow is a treatment in force.
type flow struct {
	plan.Assigned
	load    plan.Load // of the class that it shares for want of its own
	group   *group    // nil: none
	adopted bool      // found at the start, and not asked for since
}

// New connects to the kernel in the network namespace of the calling thread
// and changes nothing yet. The other methods must be called in that namespace, too.
func New(o Options) (*Shaper, error) {
	owner, err := own()
	if err != nil {
		return nil, err
	}
	if o.PinDir == "" {
		o.PinDir = filepath.Join(PinRoot, owner.namespace())
	}
	conn, err := tc.Open()
	if err != nil {
		return nil, errors.Join(err, owner.release())
	}
	s := &Shaper{options: o, log: o.Log, conn: conn, owner: owner, ports: map[string]*port{}, frames: bpf.NewFrames(), stop: make(chan struct{})}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	if o.OnCrash > 0 {
		s.stopped.Go(s.renew)
	}
	return s, nil
}

// renew keeps the treatments valid while the process lives.
func (s *Shaper) renew() {
	ticker := time.NewTicker(max(s.options.OnCrash/4, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-ticker.C:
		}
		s.mu.Lock()
		var err error
		if s.table != nil && !s.closed { // and Close may have come first
			err = s.table.Renew(s.options.OnCrash)
		}
		s.mu.Unlock()
		if err != nil {
			s.log.Error("treatments will end before their time", zap.Error(err))
		}
	}
}

// Close ends the Shaper. If clean, the kernel is left as it was found;
// otherwise everything stays for the next process, as long as OnCrash says.
func (s *Shaper) Close(clean bool) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.stop)
	s.frames.Use(nil)
	var errs []error
	switch {
	case s.table == nil:
	case clean:
		errs = append(errs, s.remove())
	default:
		errs = append(errs, s.table.Renew(s.options.OnCrash), s.table.Close())
	}
	s.conn.Close()
	errs = append(errs, s.owner.release())
	s.mu.Unlock()
	s.stopped.Wait()
	return errors.Join(errs...)
}

// remove takes all of it out of the kernel. Interfaces that are gone took
// theirs along.
func (s *Shaper) remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), undoTimeout)
	defer cancel()
	var errs []error
	facts := map[string]plan.Facts{}
	for name := range s.ports {
		f, err := s.conn.Facts(ctx, name)
		var missing *MissingInterfaceError
		switch {
		case errors.As(err, &missing):
		case err != nil:
			errs = append(errs, err)
		default:
			facts[name] = f
		}
	}
	have, err := s.read(ctx, facts)
	if err != nil {
		errs = append(errs, err)
	}
	for _, op := range plan.Diff(have, plan.State{}) {
		// One that fails must not keep the others from being removed.
		if err := s.apply(ctx, facts, op); err != nil {
			errs = append(errs, err)
		}
	}
	errs = append(errs, s.table.Remove())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	return nil
}
