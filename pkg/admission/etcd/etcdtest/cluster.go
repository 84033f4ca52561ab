package etcdtest

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Cluster is an etcd cluster on this machine. It is used by one goroutine.
type Cluster struct {
	t       testing.TB
	members []*member
	files   *Files // nil: no TLS
	// root may do everything; "": everybody may.
	root, password string
}

// Start starts a cluster of n members, which ends with the test. With fsync each
// write reaches the disk, as in production.
func Start(t testing.TB, n int, fsync bool) *Cluster {
	t.Helper()
	return start(t, n, fsync, nil)
}

func start(t testing.TB, n int, fsync bool, files *Files) *Cluster {
	t.Helper()
	c := &Cluster{t: t, files: files}
	names := make([]string, n)
	for i := range n {
		m := &member{Dir: t.TempDir(), Name: fmt.Sprintf("m%d", i), Client: free(t), Peer: free(t), Fsync: fsync, Files: files}
		names[i] = m.Name + "=http://" + m.Peer
		c.members = append(c.members, m)
	}
	t.Cleanup(func() {
		for i := range c.members {
			c.Kill(i)
		}
	})
	for i, m := range c.members {
		m.Cluster = strings.Join(names, ",")
		c.Restart(i)
	}
	c.Ready()
	return c
}

// free is an address with a port that nobody has.
func free(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// Ready waits until a majority answers.
func (c *Cluster) Ready() {
	c.t.Helper()
	cl := c.Client()
	defer func() { _ = cl.Close() }()
	var err error
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err = cl.Get(ctx, "ready")
		cancel()
		if err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, m := range c.members {
		c.t.Errorf("etcd member %s: %s", m.Name, m.kill())
	}
	c.t.Fatalf("etcd does not answer: %v", err)
}

// Endpoints are the addresses of all members.
func (c *Cluster) Endpoints() (list []string) {
	for _, m := range c.members {
		list = append(list, m.scheme()+"://"+m.Client)
	}
	return list
}

// Size is the number of members, dead ones too.
func (c *Cluster) Size() int { return len(c.members) }

// Kill ends a member's process at once.
func (c *Cluster) Kill(i int) { c.members[i].kill() }

// Restart starts a member that was killed, with what it had written.
func (c *Cluster) Restart(i int) {
	c.t.Helper()
	if err := c.members[i].start(); err != nil {
		c.t.Errorf("etcd member %d: %v", i, err)
	}
}

// Client is a client of all members, which ends with the test.
func (c *Cluster) Client() *clientv3.Client {
	c.t.Helper()
	secure, err := c.files.tls()
	if err != nil {
		c.t.Fatal(err)
	}
	cl, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints(), TLS: secure, Username: c.root, Password: c.password, Logger: zap.NewNop()})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = cl.Close() })
	return cl
}
