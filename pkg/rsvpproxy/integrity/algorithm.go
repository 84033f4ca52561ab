package integrity

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"hash"
)

// Algorithm is a keyed-hash algorithm.
type Algorithm uint8

// The algorithms. RFC 2747 section 6 makes HMAC-MD5 mandatory; use it only with
// neighbours that know nothing better.
const (
	HMACMD5 Algorithm = iota + 1
	HMACSHA1
	HMACSHA256
)

const maxDigest = sha256.Size // bytes

var algorithms = [...]struct {
	name string
	hash func() hash.Hash
	size int
}{
	HMACMD5:    {"hmac-md5", md5.New, md5.Size},
	HMACSHA1:   {"hmac-sha1", sha1.New, sha1.Size},
	HMACSHA256: {"hmac-sha256", sha256.New, sha256.Size},
}

func (a Algorithm) known() bool { return a >= HMACMD5 && a <= HMACSHA256 }

// String returns the algorithm's name, as ParseAlgorithm takes it.
func (a Algorithm) String() string {
	if a.known() {
		return algorithms[a].name
	}
	return "unknown"
}

// Size returns the digest's length in bytes, 0 for an unknown algorithm.
func (a Algorithm) Size() int {
	if a.known() {
		return algorithms[a].size
	}
	return 0
}

// ParseAlgorithm returns the algorithm of that name.
func ParseAlgorithm(name string) (Algorithm, error) {
	for a := HMACMD5; a <= HMACSHA256; a++ {
		if algorithms[a].name == name {
			return a, nil
		}
	}
	return 0, fmt.Errorf("integrity: no algorithm %q", name)
}

// mac returns the keyed hash for a secret.
func (a Algorithm) mac(secret []byte) hash.Hash { return hmac.New(algorithms[a].hash, secret) }
