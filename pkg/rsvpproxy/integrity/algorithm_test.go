package integrity

import (
	"bytes"
	"testing"
)

// RFC 2747 section 6: HMAC-MD5 has to be there.
//
// TestVectors are test cases 1, 2 and 4 of RFC 2202 (MD5, SHA-1) and 1, 2 and 4
// of RFC 4231 (SHA-256).
func TestVectors(t *testing.T) {
	jefe, want := []byte("Jefe"), []byte("what do ya want for nothing?")
	counting := unhex("0102030405060708090a0b0c0d0e0f10111213141516171819")
	cd := bytes.Repeat([]byte{0xcd}, 50)
	for _, tc := range []struct {
		a         Algorithm
		key, data []byte
		digest    string
	}{
		{HMACMD5, bytes.Repeat([]byte{0x0b}, 16), []byte("Hi There"), "9294727a3638bb1c13f48ef8158bfc9d"},
		{HMACMD5, jefe, want, "750c783e6ab0b503eaa86e310a5db738"},
		{HMACMD5, counting, cd, "697eaf0aca3a3aea3a75164746ffaa79"},
		{HMACSHA1, bytes.Repeat([]byte{0x0b}, 20), []byte("Hi There"), "b617318655057264e28bc0b6fb378c8ef146be00"},
		{HMACSHA1, jefe, want, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"},
		{HMACSHA1, counting, cd, "4c9007f4026250c6bc8414f9bf50c86c2d7235da"},
		{HMACSHA256, bytes.Repeat([]byte{0x0b}, 20), []byte("Hi There"), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
		{HMACSHA256, jefe, want, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{HMACSHA256, counting, cd, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"},
	} {
		h := tc.a.mac(tc.key)
		h.Write(tc.data)
		if got := h.Sum(nil); !bytes.Equal(got, unhex(tc.digest)) || len(got) != tc.a.Size() {
			t.Errorf("%v: %x, want %s", tc.a, got, tc.digest)
		}
	}
}

func TestAlgorithmNames(t *testing.T) {
	for _, a := range []Algorithm{HMACMD5, HMACSHA1, HMACSHA256} {
		// RFC 2747 section 2.1: the digest is a multiple of four octets.
		if got, err := ParseAlgorithm(a.String()); err != nil || got != a || a.Size()%4 != 0 {
			t.Errorf("%v: %v, %v", a, got, err)
		}
	}
	if _, err := ParseAlgorithm("md5"); err == nil || Algorithm(0).String() != "unknown" || Algorithm(9).Size() != 0 {
		t.Error("unknown algorithms")
	}
	for r := range refusals {
		if r.String() == "" || r.String() == "unknown" {
			t.Errorf("refusal %d has no name", r)
		}
	}
	if refusals.String() != "unknown" {
		t.Error(refusals.String())
	}
}
