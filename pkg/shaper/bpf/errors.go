package bpf

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// Kinds of errors.
var (
	// ErrNoFlow says that there is no such treatment.
	ErrNoFlow = errors.New("no such treatment")
	// ErrFull says that the table of treatments is full.
	ErrFull = errors.New("the table of treatments is full")
)

// explain adds to an error what can be done about it.
func explain(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("%s: %w: Linux 6.6 or later with CONFIG_BPF_SYSCALL, CONFIG_NET_CLS_ACT, CONFIG_NET_INGRESS and CONFIG_DEBUG_INFO_BTF is needed (TCX): %w", doing, plan.ErrKernel, err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %w: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN: %w", doing, plan.ErrPrivilege, err)
	case errors.Is(err, ebpf.ErrKeyNotExist):
		return fmt.Errorf("%s: %w", doing, ErrNoFlow)
	case errors.Is(err, unix.E2BIG):
		return fmt.Errorf("%s: %w; raise limits.flows", doing, ErrFull)
	}
	return fmt.Errorf("%s: %w", doing, err)
}
