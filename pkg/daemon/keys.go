package daemon

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/integrity"
)

// maxSecret is the longest key in bytes. One that is longer than the hash's
// block is no better (RFC 2104 section 3).
const maxSecret = 1024

// readSecurity reads the keys of an interface; nil: it is not secured. An error
// names the line of the configuration and says what to do.
func readSecurity(c *config.Config, i *config.Interface) (*rsvpproxy.Security, error) {
	if len(i.Integrity) == 0 {
		return nil, nil //nolint:nilnil // no keys is no security, and no error
	}
	s := &rsvpproxy.Security{
		Handshake: i.Handshake != config.HandshakeOff, AcceptUnwilling: i.Handshake == config.HandshakeWilling, Window: i.Window,
	}
	var errs []error
	for _, k := range i.Integrity {
		secret, err := readSecret(k.KeyFile)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: key %d of %s: %w", c.File, k.Line, k.ID, i.Name, err))
			continue
		}
		alg, err := integrity.ParseAlgorithm(k.Algorithm)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: key %d of %s: %w", c.File, k.Line, k.ID, i.Name, err))
			continue
		}
		s.Keys = append(s.Keys, integrity.Key{
			ID: k.ID, Algorithm: alg, Secret: secret, From: k.From, Until: k.Until, Peer: k.Neighbor, Use: integrity.Both,
		})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("%s:%d: %s: %w", c.File, i.Line, i.Name, err)
	}
	return s, nil
}

// readSecret reads the file of a key. The line end that an editor leaves is
// none of it.
func readSecret(path string) (secret []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: put the secret there, or correct key_file", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no file: name the file with the secret", path)
	case info.Mode().Perm()&0o006 != 0:
		return nil, fmt.Errorf("everybody may read or change %s (mode %04o): chmod 600 it, and make a new secret", path, info.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+2))
	if err != nil {
		return nil, err
	}
	b = trimLineEnd(b)
	switch {
	case len(b) == 0:
		return nil, fmt.Errorf("%s is empty: put the secret there", path)
	case len(b) > maxSecret:
		return nil, fmt.Errorf("%s is longer than %d bytes: a secret of 32 random bytes is enough", path, maxSecret)
	}
	return b, nil
}

func trimLineEnd(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
		if n > 1 && b[n-2] == '\r' {
			b = b[:n-2]
		}
	}
	return b
}
