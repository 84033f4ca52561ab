package daemon

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/config"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/integrity"
)

func secretFile(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
	return path
}

func securedBy(path string) *config.Interface {
	return &config.Interface{Name: "wan0", Line: 4, Window: 32, Integrity: []config.IntegrityKey{
		{ID: 5, Algorithm: "hmac-sha256", KeyFile: path, Line: 7, Neighbor: netip.MustParseAddr("192.0.2.1"), Until: time.Unix(9, 0)},
	}}
}

func TestReadSecurity(t *testing.T) {
	for content, want := range map[string]string{"secret": "secret", "secret\n": "secret", "secret\r\n": "secret", " a\n\n": " a\n"} {
		s, err := readSecurity(&config.Config{File: "f"}, securedBy(secretFile(t, content, 0o640)))
		if err != nil {
			t.Fatal(err)
		}
		k := s.Keys[0]
		if string(k.Secret) != want || k.ID != 5 || k.Algorithm != integrity.HMACSHA256 || k.Peer.String() != "192.0.2.1" ||
			!k.Until.Equal(time.Unix(9, 0)) || k.Use != integrity.Both || s.Window != 32 || !s.Handshake || s.AcceptUnwilling {
			t.Errorf("%q: %+v", content, s)
		}
	}
	i := securedBy(secretFile(t, "x", 0o600))
	for h, want := range map[config.Handshake][2]bool{config.HandshakeWilling: {true, true}, config.HandshakeOff: {false, false}} {
		i.Handshake = h
		if s, err := readSecurity(&config.Config{}, i); err != nil || s.Handshake != want[0] || s.AcceptUnwilling != want[1] {
			t.Errorf("%v: %+v, %v", h, s, err)
		}
	}
	if s, err := readSecurity(&config.Config{}, &config.Interface{}); s != nil || err != nil {
		t.Errorf("%+v, %v", s, err)
	}
}

// A key that cannot be used is an error with its line and what to do.
func TestReadSecurityRefuses(t *testing.T) {
	for path, want := range map[string]string{
		filepath.Join(t.TempDir(), "none"):                     "no such file",
		t.TempDir():                                            "is no file",
		secretFile(t, "", 0o600):                               "is empty",
		secretFile(t, "\n", 0o600):                             "is empty",
		secretFile(t, "x", 0o604):                              "everybody may read",
		secretFile(t, "x", 0o602):                              "chmod 600",
		secretFile(t, strings.Repeat("x", maxSecret+1), 0o600): "longer than",
		secretFile(t, strings.Repeat("x", 4*maxSecret), 0o600): "longer than",
	} {
		_, err := readSecurity(&config.Config{File: "box.yaml"}, securedBy(path))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "box.yaml:7: key 5 of wan0: ") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := readSecurity(&config.Config{}, securedBy(secretFile(t, strings.Repeat("x", maxSecret)+"\n", 0o600))); err != nil {
		t.Errorf("a key of the greatest length: %v", err)
	}
	i := securedBy(secretFile(t, "x", 0o600))
	i.Integrity = append(i.Integrity, i.Integrity[0])
	if _, err := readSecurity(&config.Config{File: "f"}, i); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("f:%d", i.Line)) {
		t.Errorf("a key twice: %v", err)
	}
}
