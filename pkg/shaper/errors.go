package shaper

import (
	"errors"

	"github.com/qosproxy/qosproxy/pkg/shaper/bpf"
	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
	"github.com/qosproxy/qosproxy/pkg/shaper/tc"
)

// MissingInterfaceError says that a configured interface is not there.
type MissingInterfaceError = tc.MissingInterfaceError

// Kinds of errors, for errors.Is.
var (
	// ErrForeignQdisc says that somebody else shapes the interface.
	ErrForeignQdisc = errors.New("the interface has a queueing discipline that is not ours")
	// ErrCapacity says that the guaranteed rates would exceed the interface's capacity.
	ErrCapacity = errors.New("not enough capacity")
	// ErrPool says that all classes for reserved flows are in use.
	ErrPool = errors.New("all classes for reserved flows are in use")
	// ErrNotManaged says that the interface is not in the plan.
	ErrNotManaged = errors.New("the interface is not managed")
	// ErrInUse says that another process does this already.
	ErrInUse = errors.New("another qosproxy manages this network namespace")
	// ErrClosed says that the Shaper was closed.
	ErrClosed = errors.New("the shaper is closed")
	// ErrKernel says that the kernel lacks a feature.
	ErrKernel = plan.ErrKernel
	// ErrPrivilege says that the process has not the rights it needs.
	ErrPrivilege = plan.ErrPrivilege
	// ErrNoFlow says that there is no such treatment.
	ErrNoFlow = bpf.ErrNoFlow
	// ErrFull says that the table of treatments is full.
	ErrFull = bpf.ErrFull
)
