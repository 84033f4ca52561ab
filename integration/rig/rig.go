package rig

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/wire"
)

// Rig owns namespaces, wires and processes.
type Rig struct {
	group string

	mu     sync.Mutex
	closed bool
	names  map[string]*netns.NetNS
	undo   []func() error // run in reverse order

	closing sync.Mutex // held by the Close that is at work
}

// ErrClosed is returned for things asked of a rig that was closed.
var ErrClosed = errors.New("the rig is closed")

// New returns an empty rig. Leftovers of rigs whose process died are swept
// first, since they would stay for ever otherwise.
func New() (*Rig, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("network namespaces need root: run this as root")
	}
	if err := Sweep(); err != nil {
		return nil, err
	}
	return &Rig{group: netns.NewGroup(), names: map[string]*netns.NetNS{}}, nil
}

// Namespace makes a named namespace with its loopback up, IPv6 without
// duplicate address detection, and no forwarding.
func (r *Rig) Namespace(role string) (*netns.NetNS, error) {
	var ns *netns.NetNS
	err := r.own(func() (func() error, error) {
		if r.names[role] != nil {
			return nil, fmt.Errorf("namespace %s exists in this rig", role)
		}
		var err error
		if ns, err = netns.NewNamed(r.group + role); err != nil {
			return nil, err
		}
		r.names[role] = ns
		return ns.Close, nil
	})
	if err != nil {
		return nil, err
	}
	for _, key := range []string{"all", "default"} {
		if err := ns.Sysctl("net/ipv6/conf/"+key+"/accept_dad", "0"); err != nil && !netns.IsAbsent(err) {
			return nil, err
		}
	}
	return ns, ns.Up("lo")
}

// Lookup returns a namespace by its role, nil if there is none.
func (r *Rig) Lookup(role string) *netns.NetNS {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.names[role]
}

// Namespaces returns all namespaces of the rig.
func (r *Rig) Namespaces() []*netns.NetNS {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*netns.NetNS, 0, len(r.names))
	for _, ns := range r.names {
		all = append(all, ns)
	}
	return all
}

// Wire starts an emulated link that ends with the rig.
func (r *Rig) Wire(cfg wire.Config) (*wire.Wire, error) {
	var w *wire.Wire
	err := r.own(func() (func() error, error) {
		var err error
		if w, err = wire.Start(cfg); err != nil {
			return nil, err
		}
		return w.Close, nil
	})
	return w, err
}

// Start runs a process that ends with the rig.
func (r *Rig) Start(cfg ProcessConfig) (*Process, error) {
	var p *Process
	err := r.own(func() (func() error, error) {
		var err error
		if p, err = StartProcess(cfg); err != nil {
			return nil, err
		}
		return p.end, nil
	})
	return p, err
}

// OnClose has f run when the rig closes, before what was made earlier is
// removed.
func (r *Rig) OnClose(f func() error) error {
	return r.own(func() (func() error, error) { return f, nil })
}

// own makes something together with what removes it, unless the rig is closed
// by now: nothing that was made can then be forgotten.
func (r *Rig) own(make func() (undo func() error, err error)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return ErrClosed
	}
	undo, err := make()
	if err != nil {
		return err
	}
	r.undo = append(r.undo, undo)
	return nil
}

// Close ends and removes all that the rig made, the latest first, and goes on
// after errors, which it returns joined. It may be called again, and from
// several goroutines: each returns when all is removed.
func (r *Rig) Close() error {
	r.closing.Lock()
	defer r.closing.Unlock()
	var errs []error
	for undo := r.next(); undo != nil; undo = r.next() {
		errs = append(errs, undo())
	}
	return errors.Join(errs...)
}

// next takes the latest entry off the list, and lets nothing new onto it.
func (r *Rig) next() func() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	last := len(r.undo) - 1
	if last < 0 {
		return nil
	}
	undo := r.undo[last]
	r.undo = r.undo[:last]
	return undo
}
