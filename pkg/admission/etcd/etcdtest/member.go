package etcdtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// env tells a process that it is a member, and which.
const env = "QOSPROXY_ETCDTEST_MEMBER"

// member is one member of a cluster.
type member struct {
	Dir, Name    string
	Client, Peer string // addresses
	Cluster      string
	Fsync        bool
	Files        *Files // with which it speaks to clients; nil: without TLS
	Kept         bool   // whoever started it ends it; it does not look whether that one lives

	running *exec.Cmd
	stdin   io.Closer
	stderr  bytes.Buffer
}

// Environ is for a test that starts the only member itself, elsewhere than on this
// machine's loopback: the environment that makes the test's program a member which
// its clients find at an address, with its files in dir.
func Environ(dir, client, peer string) ([]string, error) {
	text, err := json.Marshal(member{Dir: dir, Name: "alone", Client: client, Peer: peer, Cluster: "alone=http://" + peer, Kept: true})
	return append(os.Environ(), env+"="+string(text)), err
}

// Member is called first of all in TestMain: in a process that is to be a member
// it does not return.
func Member() {
	text := os.Getenv(env)
	if text == "" {
		return
	}
	var m member
	err := json.Unmarshal([]byte(text), &m)
	if err == nil {
		err = m.serve()
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// serve is the member, until who started it has gone.
func (m *member) serve() error {
	at := func(scheme, address string) []url.URL { return []url.URL{{Scheme: scheme, Host: address}} }
	c := embed.NewConfig()
	if f := m.Files; f != nil {
		c.ClientTLSInfo.CertFile, c.ClientTLSInfo.KeyFile, c.ClientTLSInfo.TrustedCAFile = f.Cert, f.Key, f.CA
		c.ClientTLSInfo.ClientCertAuth = true
		c.EnableGRPCGateway = false // a client that could not log in
	}
	c.Name, c.Dir, c.InitialCluster = m.Name, m.Dir, m.Cluster
	c.ListenClientUrls, c.AdvertiseClientUrls = at(m.scheme(), m.Client), at(m.scheme(), m.Client)
	c.ListenPeerUrls, c.AdvertisePeerUrls = at("http", m.Peer), at("http", m.Peer)
	c.TickMs, c.ElectionMs = 50, 500
	c.UnsafeNoFsync = !m.Fsync
	c.BcryptCost = 4 // with the race detector a password of the usual cost takes seconds
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(c)
	if err != nil {
		return err
	}
	gone := make(chan error, 1)
	go func() {
		if m.Kept {
			return
		}
		_, err := io.Copy(io.Discard, os.Stdin)
		gone <- errors.Join(errors.New("the test has gone"), err)
	}()
	select {
	case err := <-gone:
		return err
	case err := <-e.Err():
		return err
	}
}

func (m *member) scheme() string {
	if m.Files != nil {
		return "https"
	}
	return "http"
}

func (m *member) start() error {
	if m.running != nil {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	cmd := exec.Command(self) //nolint:noctx // it ends with the test's stdin, or by kill
	cmd.Env = append(os.Environ(), env+"="+string(text))
	m.stderr.Reset()
	cmd.Stderr = &m.stderr
	if m.stdin, err = cmd.StdinPipe(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	m.running = cmd
	return nil
}

// kill ends the process at once; what it said, if it had ended before.
func (m *member) kill() string {
	if m.running == nil {
		return ""
	}
	_ = m.running.Process.Kill() // it may have gone
	_ = m.running.Wait()
	_ = m.stdin.Close()
	m.running = nil
	return m.stderr.String()
}
