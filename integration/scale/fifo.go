package main

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// fifo makes a named pipe and opens its writing end; it does not wait for the
// reader.
func fifo() (path string, w *os.File, err error) {
	dir, err := os.MkdirTemp("", "qosproxy-scale")
	if err != nil {
		return "", nil, err
	}
	path = filepath.Join(dir, "requests")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return "", nil, &os.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	w, err = os.OpenFile(path, os.O_RDWR, 0) // both ways, so that it is open at once
	return path, w, err
}
