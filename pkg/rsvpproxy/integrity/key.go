package integrity

import (
	"bytes"
	"errors"
	"fmt"
	"hash"
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Use is what a key is for. Associations are simplex: each direction may have
// keys of its own (RFC 2747 section 4).
type Use uint8

// The uses, to be or-ed together.
const (
	Sending Use = 1 << iota
	Receiving
	Both = Sending | Receiving
)

// Key is an authentication key with what is to be known of it (RFC 2747
// section 2.2).
type Key struct {
	ID        uint64 // 48 bits
	Algorithm Algorithm
	Secret    []byte
	// From and Until are KeyStartValid and KeyEndValid; the zero time is no
	// limit. The key is valid at From and no longer at Until.
	From, Until time.Time
	// Peer is the neighbour that the key is shared with; invalid: all.
	Peer netip.Addr
	Use  Use
}

// Errors of keys.
var (
	ErrKeyID     = errors.New("key identifier above 48 bits")
	ErrAlgorithm = errors.New("unknown algorithm")
	ErrSecret    = errors.New("empty secret")
	ErrLifetime  = errors.New("key ends before it begins")
	ErrUse       = errors.New("key of no use")
	ErrDuplicate = errors.New("two keys of one identifier for the same neighbour and use")
)

func (k *Key) check() error {
	switch {
	case k.ID > wire.MaxKeyID:
		return ErrKeyID
	case !k.Algorithm.known():
		return ErrAlgorithm
	case len(k.Secret) == 0:
		return ErrSecret
	case !k.From.IsZero() && !k.Until.IsZero() && !k.Until.After(k.From):
		return ErrLifetime
	case k.Use == 0 || k.Use > Both:
		return ErrUse
	}
	return nil
}

// lifetime of a key at a time.
type lifetime uint8

const (
	early lifetime = iota
	valid
	expired
)

func (k *Key) at(now time.Time) lifetime {
	switch {
	case !k.From.IsZero() && now.Before(k.From):
		return early
	case !k.Until.IsZero() && !now.Before(k.Until):
		return expired
	}
	return valid
}

// key is a Key at work.
type key struct {
	Key
	mac  hash.Hash
	last uint64 // latest sequence number sent
	sent bool   // there is one
}

func (k *key) same(o *Key) bool {
	return k.ID == o.ID && k.Algorithm == o.Algorithm && k.Peer == o.Peer && bytes.Equal(k.Secret, o.Secret)
}

func (k *key) shared(peer netip.Addr) bool { return !k.Peer.IsValid() || k.Peer == peer }

// makeKeys checks keys and sets them to work, those that were at work already
// with their state.
func makeKeys(keys []Key, old []*key) ([]*key, error) {
	made := make([]*key, 0, len(keys))
	for i := range keys {
		k := keys[i]
		k.Peer = k.Peer.Unmap()
		if err := k.check(); err != nil {
			return nil, fmt.Errorf("key %d: %w", k.ID, err)
		}
		for _, o := range made {
			if o.ID == k.ID && o.Peer == k.Peer && o.Use&k.Use != 0 {
				return nil, fmt.Errorf("key %d: %w", k.ID, ErrDuplicate)
			}
		}
		k.Secret = bytes.Clone(k.Secret)
		n := &key{Key: k, mac: k.Algorithm.mac(k.Secret)}
		for _, o := range old {
			if o.same(&k) && o.Use&Sending != 0 && o.sent {
				n.last, n.sent = o.last, true
			}
		}
		made = append(made, n)
	}
	return made, nil
}

// sending selects the key to sign with for a peer. Keys overlap: the sender
// changes over in the middle of the overlap, so that clocks may differ by half
// of it (RFC 2747 section 5.1). When all keys have expired the last one goes on
// (section 5.3); stale then says so.
func (l *Link) sending(now time.Time, peer netip.Addr) (best *key, stale bool) {
	for _, k := range l.keys {
		if k.Use&Sending == 0 || !k.shared(peer) || k.at(now) != valid {
			continue
		}
		if best == nil || l.takesOver(now, k, best) {
			best = k
		}
	}
	if best != nil {
		return best, false
	}
	best = l.lastExpired(now, peer, Sending)
	return best, best != nil
}

// takesOver says whether key b, valid like a, is now preferred to it.
func (l *Link) takesOver(now time.Time, b, a *key) bool {
	if b.Peer.IsValid() != a.Peer.IsValid() {
		return b.Peer.IsValid() // the more special one
	}
	if b.From.Before(a.From) {
		return !l.takesOver(now, a, b)
	}
	if b.From.Equal(a.From) {
		return false // the first configured
	}
	if a.Until.IsZero() {
		return true // no end of the overlap is known
	}
	return !now.Before(b.From.Add(a.Until.Sub(b.From) / 2))
}

// lastExpired returns the key that expired last if all have: an association
// must not fall back to no authentication (RFC 2747 section 5.3).
func (l *Link) lastExpired(now time.Time, peer netip.Addr, use Use) (last *key) {
	for _, k := range l.keys {
		if k.Use&use == 0 || !k.shared(peer) {
			continue
		}
		switch k.at(now) {
		case valid:
			return nil
		case expired:
			if last == nil || k.Until.After(last.Until) {
				last = k
			}
		case early:
		}
	}
	return last
}

// receiving selects the key that a peer signed with, by its identifier and the
// peer's address (RFC 2747 section 4).
func (l *Link) receiving(peer netip.Addr, id uint64) (found *key) {
	for _, k := range l.keys {
		if k.Use&Receiving != 0 && k.ID == id && k.shared(peer) && (found == nil || k.Peer.IsValid()) {
			found = k
		}
	}
	return found
}
