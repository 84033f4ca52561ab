package etcdtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Files are a certificate with its key, and whose certificate signs it.
type Files struct{ Cert, Key, CA string }

// StartSecure starts one member as Start does that speaks TLS alone, to clients with
// a certificate of the same CA and the password of a user. The user may read and
// write what begins with a prefix.
func StartSecure(t testing.TB, prefix, user, password string) (*Cluster, Files) {
	t.Helper()
	files := Certify(t)
	c := start(t, 1, false, &files)
	cl := c.Client()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	const root = "root"
	_, err := cl.RoleAdd(ctx, user)
	do := func(f func() error) {
		if err == nil {
			err = f()
		}
	}
	do(func() error {
		_, err := cl.RoleGrantPermission(ctx, user, prefix, clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermReadWrite))
		return err
	})
	for _, name := range []string{user, root} { // root's role is there when it is granted
		do(func() error { _, err := cl.UserAdd(ctx, name, password); return err })
		do(func() error { _, err := cl.UserGrantRole(ctx, name, name); return err })
	}
	do(func() error { _, err := cl.AuthEnable(ctx); return err })
	if err != nil {
		t.Fatal(err)
	}
	c.root, c.password = root, password
	return c, files
}

// Certify makes a CA and a certificate of it for both ends of connections on
// 127.0.0.1.
func Certify(t testing.TB) Files {
	t.Helper()
	dir, now := t.TempDir(), time.Now()
	f := Files{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), CA: filepath.Join(dir, "ca.pem")}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the test's CA"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	own := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "the test"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	signing, key := newKey(t), newKey(t)
	for path, c := range map[string]*x509.Certificate{f.CA: ca, f.Cert: own} {
		public := &signing.PublicKey
		if c == own {
			public = &key.PublicKey
		}
		der, err := x509.CreateCertificate(rand.Reader, c, ca, public, signing)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, "CERTIFICATE", der)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, f.Key, "PRIVATE KEY", der)
	return f
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func write(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", kind, err))
	}
}

// tls is how a client uses them; nil: not at all.
func (f *Files) tls() (*tls.Config, error) {
	if f == nil {
		return nil, nil //nolint:nilnil // no files are no TLS, and no error
	}
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, RootCAs: x509.NewCertPool()}
	if !c.RootCAs.AppendCertsFromPEM(ca) {
		return nil, errors.New("no certificate in " + f.CA)
	}
	return c, nil
}
