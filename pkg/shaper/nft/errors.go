package nft

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Reasons why a call fails.
var (
	// ErrFull says that a set is at its size limit. Nothing of the call was
	// done.
	ErrFull = errors.New("the set is full")
	// ErrOwned says that a table of our name belongs to another live process.
	ErrOwned = errors.New("a table of this name is owned by another process")
	// ErrForeign says that a table of our name exists that was not made by a
	// daemon of ours: it is left alone.
	ErrForeign = errors.New("a table of this name exists and is not ours")
	// ErrNotPermitted says that the process may not change the network.
	ErrNotPermitted = errors.New("CAP_NET_ADMIN is missing")
	// ErrTimeout says that the kernel did not answer in time.
	ErrTimeout = errors.New("the kernel did not answer in time")
	// ErrClosed says that the tables were given back.
	ErrClosed = errors.New("the queue tables are closed")
)

// explain gives the kernel's bare numbers their meaning here.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENFILE):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w: %w", ErrTimeout, err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: %w", ErrNotPermitted, err)
	}
	return err
}
