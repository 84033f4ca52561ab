package integrity

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// ErrTooLong says that a message has no room for INTEGRITY.
var ErrTooLong = errors.New("integrity: message too long to be signed")

var zeros [maxDigest]byte

const objectSize = 4 + 16 // bytes of INTEGRITY before the digest: object header, fixed part

// Sign appends the whole message msg to b, with INTEGRITY in it that is signed
// with the key: in its place directly behind the common header, in the stead of
// what was there. The message must be sound (RFC 2747 section 4.1).
func (k *Key) Sign(b, msg []byte, flags uint8, seq uint64) ([]byte, error) {
	if err := k.check(); err != nil {
		return b, err
	}
	w := key{Key: *k, mac: k.Algorithm.mac(k.Secret)}
	return w.sign(b, msg, flags, seq)
}

// Verify says whether the digest of a message is right for the key. That the
// message is fresh is another matter (RFC 2747 section 4.2).
func (k *Key) Verify(msg []byte) (bool, error) {
	if err := k.check(); err != nil {
		return false, err
	}
	e, err := wire.Open(msg)
	if err != nil {
		return false, err
	}
	w := key{Key: *k, mac: k.Algorithm.mac(k.Secret)}
	var scratch [maxDigest]byte
	return e.Signed && e.Integrity.KeyID == k.ID && w.verify(msg, &e, &scratch), nil
}

func (k *key) sign(b, msg []byte, flags uint8, seq uint64) ([]byte, error) {
	e, err := wire.Open(msg)
	if err != nil {
		return b, err
	}
	n := k.Algorithm.Size()
	total := len(msg) - (e.End - e.Start) + objectSize + n
	if total > wire.MaxMessage {
		return b, ErrTooLong
	}
	start := len(b)
	b = append(b, msg[:e.Start]...)
	b = binary.BigEndian.AppendUint16(b, uint16(objectSize+n))
	b = append(b, uint8(wire.ClassIntegrity), 1)
	b = binary.BigEndian.AppendUint64(b, uint64(flags)<<56|k.ID)
	b = binary.BigEndian.AppendUint64(b, seq)
	digest := len(b)
	b = append(append(b, zeros[:n]...), msg[e.End:]...)
	out := b[start:]
	binary.BigEndian.PutUint16(out[2:], 0) // the digest is over a checksum of zero
	binary.BigEndian.PutUint16(out[6:], uint16(total))
	k.mac.Reset()
	k.mac.Write(out)
	k.mac.Sum(b[digest:digest]) // n bytes, over the zeros
	wire.SetChecksum(out)
	return b, nil
}

// verify computes the digest with the fields for checksum and digest zero,
// without touching the message, and compares in constant time.
func (k *key) verify(msg []byte, e *wire.Envelope, scratch *[maxDigest]byte) bool {
	n := k.Algorithm.Size()
	if len(e.Integrity.Digest) != n {
		return false
	}
	k.mac.Reset()
	k.mac.Write(msg[:2])
	k.mac.Write(zeros[:2])
	k.mac.Write(msg[4:e.DigestAt])
	k.mac.Write(zeros[:n])
	k.mac.Write(msg[e.End:])
	return subtle.ConstantTimeCompare(k.mac.Sum(scratch[:0]), e.Integrity.Digest) == 1
}
