package plan

import "errors"

// Kinds of errors that every part of the shaper may meet.
var (
	// ErrKernel says that the kernel lacks a feature.
	ErrKernel = errors.New("kernel feature missing")
	// ErrPrivilege says that the process may not do it.
	ErrPrivilege = errors.New("not permitted")
	// ErrTreatment is the kind of every refusal of a Treatment's numbers.
	ErrTreatment = errors.New("treatment")
)
