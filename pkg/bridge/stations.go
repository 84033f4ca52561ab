package bridge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Stations asks the kernel behind which of a bridge's ports stations are. Its zero
// value is ready, and may be used from anywhere.
type Stations struct {
	mu     sync.Mutex
	kernel *kernel // nil: not asked yet
}

// Port is the one by which the bridge of a port sends what is for a station; 0: it
// has not heard it, and sends that by all others.
func (s *Stations) Port(of int, mac [6]byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kernel == nil {
		k, err := dial()
		if err != nil {
			return 0, err
		}
		s.kernel = k
	}
	header := make([]byte, unix.SizeofNdMsg)
	header[0] = unix.AF_BRIDGE
	binary.NativeEndian.PutUint32(header[4:8], uint32(of))
	header[10] = unix.NTF_MASTER
	answer, err := s.kernel.request(unix.RTM_GETNEIGH, 0, header, func(ae *netlink.AttributeEncoder) {
		ae.Bytes(unix.NDA_LLADDR, mac[:])
	})
	switch {
	case errors.Is(err, unix.ENOENT):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("where a station is: %w", err)
	case len(answer) == 0 || len(answer[0].Data) < unix.SizeofNdMsg:
		return 0, fmt.Errorf("where a station is: %w", errShort)
	}
	return int(binary.NativeEndian.Uint32(answer[0].Data[4:8])), nil
}

// Close ends the asking.
func (s *Stations) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kernel == nil {
		return nil
	}
	k := s.kernel
	s.kernel = nil
	return k.conn.Close()
}
