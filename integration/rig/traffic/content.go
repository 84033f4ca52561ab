package traffic

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
)

// content is the endless byte stream that a seed stands for.
type content struct {
	random *rand.ChaCha8
}

func newContent(seed uint64) *content {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return &content{random: rand.NewChaCha8(key)}
}

func (c *content) fill(b []byte) {
	_, _ = c.random.Read(b) // documented never to fail
}

// verifier compares a received stream with the one that a seed stands for.
type verifier struct {
	content *content
	want    []byte
	offset  int64
	// mismatch is the offset of the first wrong byte, -1 for none.
	mismatch int64
}

func newVerifier(seed uint64) *verifier {
	return &verifier{content: newContent(seed), mismatch: -1}
}

func (v *verifier) write(got []byte) {
	if v.mismatch >= 0 {
		return
	}
	if len(v.want) < len(got) {
		v.want = make([]byte, len(got))
	}
	want := v.want[:len(got)]
	v.content.fill(want)
	if !bytes.Equal(got, want) {
		for i := range got {
			if got[i] != want[i] {
				v.mismatch = v.offset + int64(i)
				return
			}
		}
	}
	v.offset += int64(len(got))
}
