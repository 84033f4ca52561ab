package integrity

import (
	"errors"
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// ErrNoKey says that there is no key to sign with.
var ErrNoKey = errors.New("integrity: no key for this neighbour")

// Link is the authentication on one secured interface.
type Link struct {
	cfg      Config
	keys     []*key
	peers    map[peerKey]*association
	pending  map[[8]byte]peerKey // by cookie: challenges without a response yet
	cookies  uint64              // made so far
	answers  bucket
	counters Counters
	scratch  [maxDigest]byte
}

// peerKey names a security association: a sender and one of its keys.
type peerKey struct {
	peer netip.Addr
	id   uint64
}

// association is what is known of a sender's key.
type association struct {
	window  window // not begun: waits for the handshake
	heard   time.Time
	cookie  [8]byte
	tries   int
	due     time.Time // of the next challenge
	waiting bool
}

// New returns a Link.
func New(c Config) (*Link, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	keys, err := makeKeys(c.Keys, nil)
	if err != nil {
		return nil, err
	}
	return &Link{cfg: c, keys: keys, peers: map[peerKey]*association{}, pending: map[[8]byte]peerKey{}}, nil
}

// SetKeys replaces the keys. Those that stay keep their sequence numbers and
// associations; the others are gone at once.
func (l *Link) SetKeys(keys []Key) error {
	made, err := makeKeys(keys, l.keys)
	if err != nil {
		return err
	}
	old := *l
	l.keys = made
	for pk := range l.peers {
		was, is := old.receiving(pk.peer, pk.id), l.receiving(pk.peer, pk.id)
		if was == nil || is == nil || !is.same(&was.Key) {
			l.drop(pk)
		}
	}
	return nil
}

// Counters returns the counters.
func (l *Link) Counters() Counters { return l.counters }

// Associations returns how many senders and keys are kept.
func (l *Link) Associations() int { return len(l.peers) }

// Sign appends the message msg to b, signed for a neighbour; an invalid peer is
// for all neighbours, as multicast is. On a link that is not secured for
// sending the message is appended as it is.
func (l *Link) Sign(b []byte, now time.Time, peer netip.Addr, msg []byte) ([]byte, error) {
	if l.cfg.Secure&Sending == 0 {
		return append(b, msg...), nil
	}
	k, stale := l.sending(now, peer.Unmap())
	if k == nil {
		return b, ErrNoKey
	}
	b, err := k.sign(b, msg, l.flags(), k.next(now))
	if err != nil {
		return b, err
	}
	l.counters.Signed++
	if stale {
		l.counters.StaleSigned++
	}
	return b, nil
}

func (l *Link) flags() uint8 {
	if l.cfg.Answer {
		return l.cfg.Flag
	}
	return 0
}

// Packet is a message to be sent, by unicast, to one neighbour.
type Packet struct {
	To  netip.Addr
	Msg []byte
}

// Verdict is what becomes of a message that arrived.
type Verdict struct {
	// Refused is None if the message is accepted. A message of the handshake
	// ends here and is Handshake.
	Refused Refusal
	Send    *Packet // to be sent in any case; nil: nothing
}

// Receive judges a message that arrived from the IP address src. A Bundle is
// to be taken apart first: its messages are signed one by one.
func (l *Link) Receive(now time.Time, src netip.Addr, msg []byte) Verdict {
	v := l.judge(now, src.Unmap(), msg)
	if v.Refused == None {
		l.counters.Accepted++
	} else {
		l.counters.Refused[v.Refused]++
	}
	return v
}

func (l *Link) judge(now time.Time, src netip.Addr, msg []byte) Verdict {
	e, err := wire.Open(msg)
	if err != nil {
		return Verdict{Refused: Malformed}
	}
	switch e.Type {
	case wire.IntegrityChallenge: // needs no INTEGRITY
		return l.answer(now, src, msg)
	case wire.IntegrityResponse:
		return Verdict{Refused: l.response(now, src, msg, &e)}
	default:
	}
	if l.cfg.Secure&Receiving == 0 {
		return Verdict{}
	}
	if !e.Signed {
		return Verdict{Refused: Unsigned}
	}
	peer := src // in PathErr and ResvConf (RFC 2747 section 4)
	if e.Hop.IsValid() {
		peer = e.Hop.Unmap()
	}
	k, stale, why := l.authentic(now, peer, msg, &e)
	if why != None {
		return Verdict{Refused: why}
	}
	v := l.fresh(now, peerKey{peer, k.ID}, &e.Integrity)
	if v.Refused == None && stale {
		l.counters.StaleAccepted++
	}
	return v
}

// authentic finds the key that a message claims and verifies the digest.
func (l *Link) authentic(now time.Time, peer netip.Addr, msg []byte, e *wire.Envelope) (k *key, stale bool, _ Refusal) {
	k = l.receiving(peer, e.Integrity.KeyID)
	if k == nil {
		return nil, false, UnknownKey
	}
	if life := k.at(now); life != valid {
		if life == early || l.lastExpired(now, peer, Receiving) != k {
			return nil, false, KeyLifetime
		}
		stale = true
	}
	if !k.verify(msg, e, &l.scratch) {
		return nil, false, BadDigest
	}
	return k, stale, None
}

// fresh tells new messages of a sender from replayed ones.
func (l *Link) fresh(now time.Time, pk peerKey, i *wire.Integrity) Verdict {
	a := l.peers[pk]
	if a != nil && a.window.begun() {
		a.heard = now
		if !a.window.accept(i.Sequence, l.cfg.Window) {
			return Verdict{Refused: Replayed}
		}
		return Verdict{}
	}
	prove := l.cfg.Handshake && (i.Handshake() || !l.cfg.AcceptUnwilling)
	if prove && !i.Handshake() {
		return Verdict{Refused: Unwilling} // section 4.3: SHOULD NOT be challenged
	}
	if a == nil {
		if a = l.add(now, pk); a == nil {
			return Verdict{Refused: Crowded}
		}
	}
	if !prove {
		a.window.start(i.Sequence)
		return Verdict{}
	}
	if a.waiting {
		return Verdict{Refused: Unproven}
	}
	return Verdict{Refused: Unproven, Send: l.challenge(now, pk, a)}
}

func (l *Link) add(now time.Time, pk peerKey) *association {
	if len(l.peers) >= l.cfg.MaxAssociations && !l.forget(now) {
		return nil
	}
	a := &association{heard: now, window: window{seen: make([]uint64, 0, min(l.cfg.Window, 64)+1)}}
	l.peers[pk] = a
	return a
}

// forget makes room by the sender that was silent longest.
func (l *Link) forget(now time.Time) bool {
	if !l.cfg.Handshake {
		return false
	}
	var oldest peerKey
	heard := now.Add(-l.cfg.Idle)
	found := false
	for pk, a := range l.peers {
		if !a.waiting && a.heard.Before(heard) {
			oldest, heard, found = pk, a.heard, true
		}
	}
	if found {
		l.drop(oldest)
		l.counters.Forgotten++
	}
	return found
}

func (l *Link) drop(pk peerKey) {
	if a := l.peers[pk]; a != nil && a.waiting {
		delete(l.pending, a.cookie)
	}
	delete(l.peers, pk)
}
