package integrity

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// cookie makes a challenge cookie: unique, and not to be guessed without the
// local secret (RFC 2747 section 4.3).
func (l *Link) cookie(now time.Time, pk peerKey) [8]byte {
	mac := hmac.New(sha256.New, l.cfg.Secret)
	l.cookies++
	b := binary.BigEndian.AppendUint64(nil, uint64(now.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, l.cookies)
	b = binary.BigEndian.AppendUint64(b, pk.id)
	mac.Write(append(b, pk.peer.AsSlice()...))
	return [8]byte(mac.Sum(nil))
}

// challenge begins the handshake with a sender.
func (l *Link) challenge(now time.Time, pk peerKey, a *association) *Packet {
	a.cookie, a.waiting, a.tries = l.cookie(now, pk), true, 0
	l.pending[a.cookie] = pk
	return l.repeat(now, pk, a)
}

func (l *Link) repeat(now time.Time, pk peerKey, a *association) *Packet {
	a.tries++
	a.due = now.Add(l.cfg.Retry)
	h := wire.Handshake{
		Type: wire.IntegrityChallenge, SendTTL: l.cfg.TTL,
		Challenge: wire.Challenge{KeyID: pk.id, Cookie: a.cookie},
	}
	msg, err := h.Append(nil)
	if err != nil {
		return nil // cannot be: all of it is made here
	}
	l.counters.Challenges++
	return &Packet{To: pk.peer, Msg: msg}
}

// Start challenges the senders whose addresses are configured, so that the
// handshake is over when their first message comes. To be called once, after a
// restart.
func (l *Link) Start(now time.Time) (send []Packet) {
	if !l.cfg.Handshake || l.cfg.Secure&Receiving == 0 {
		return nil
	}
	for _, k := range l.keys {
		pk := peerKey{k.Peer, k.ID}
		if k.Use&Receiving == 0 || !k.Peer.IsValid() || k.at(now) != valid || l.peers[pk] != nil {
			continue
		}
		if a := l.add(now, pk); a != nil {
			if p := l.challenge(now, pk, a); p != nil {
				send = append(send, *p)
			}
		}
	}
	return send
}

// Deadline is when Tick has something to do.
func (l *Link) Deadline() (at time.Time, ok bool) {
	for _, pk := range l.pending {
		if due := l.peers[pk].due; !ok || due.Before(at) {
			at, ok = due, true
		}
	}
	return at, ok
}

// Tick repeats challenges that were not responded to, and ends those that were
// repeated often enough: the sender's next message begins anew.
func (l *Link) Tick(now time.Time) (send []Packet) {
	for _, pk := range l.pending {
		a := l.peers[pk]
		if now.Before(a.due) {
			continue
		}
		if a.tries >= l.cfg.Tries {
			l.drop(pk)
			l.counters.GivenUp++
			continue
		}
		if p := l.repeat(now, pk, a); p != nil {
			send = append(send, *p)
		}
	}
	slices.SortFunc(send, func(a, b Packet) int { return cmp.Or(a.To.Compare(b.To), bytes.Compare(a.Msg, b.Msg)) })
	return send
}

// response ends a handshake. The response may come from another address of the
// challenged sender: what counts is the cookie and the digest.
func (l *Link) response(now time.Time, src netip.Addr, msg []byte, e *wire.Envelope) Refusal {
	h, err := wire.ParseHandshake(msg)
	if err != nil {
		return Malformed
	}
	pk, ok := l.pending[h.Challenge.Cookie]
	if !ok {
		if a := l.peers[peerKey{src, e.Integrity.KeyID}]; a != nil && a.waiting {
			return BadCookie
		}
		return Unsolicited
	}
	if h.Challenge.KeyID != pk.id || h.Challenge.Reserved != 0 || e.Integrity.KeyID != pk.id {
		return BadCookie // not identical with what was sent
	}
	if _, _, why := l.authentic(now, pk.peer, msg, e); why != None {
		return why
	}
	a := l.peers[pk]
	delete(l.pending, a.cookie)
	a.waiting, a.heard = false, now
	a.window.start(e.Integrity.Sequence)
	l.counters.Handshakes++
	return Handshake
}

// answer responds to a challenge by one of the sending keys (RFC 2747 section
// 4.2). A challenge proves nothing about who sent it, so that there is a limit.
func (l *Link) answer(now time.Time, src netip.Addr, msg []byte) Verdict {
	h, err := wire.ParseHandshake(msg)
	if err != nil {
		return Verdict{Refused: Malformed}
	}
	k := l.answering(now, src, h.Challenge.KeyID)
	if !l.cfg.Answer || k == nil || !l.answers.take(now, l.cfg.ResponseRate) {
		return Verdict{Refused: NotAnswered}
	}
	r := wire.Handshake{Type: wire.IntegrityResponse, SendTTL: l.cfg.TTL, Challenge: h.Challenge}
	plain, err := r.Append(nil)
	if err != nil {
		return Verdict{Refused: NotAnswered}
	}
	out, err := k.sign(nil, plain, l.flags(), k.next(now))
	if err != nil {
		return Verdict{Refused: NotAnswered}
	}
	l.counters.Responses++
	return Verdict{Refused: Handshake, Send: &Packet{To: src, Msg: out}}
}

// answering is the sending key of that identifier.
func (l *Link) answering(now time.Time, peer netip.Addr, id uint64) (found *key) {
	for _, k := range l.keys {
		if k.Use&Sending == 0 || k.ID != id || !k.shared(peer) || found != nil && !k.Peer.IsValid() {
			continue
		}
		if life := k.at(now); life == valid || life == expired && l.lastExpired(now, peer, Sending) == k {
			found = k
		}
	}
	return found
}

// bucket limits a rate; its burst is one second's worth.
type bucket struct {
	level float64 // taken and not yet flowed off
	last  time.Time
}

func (b *bucket) take(now time.Time, perSecond int) bool {
	if gone := now.Sub(b.last); gone > 0 {
		b.level = max(0, b.level-gone.Seconds()*float64(perSecond))
		b.last = now
	}
	if b.level+1 > float64(perSecond) {
		return false
	}
	b.level++
	return true
}
