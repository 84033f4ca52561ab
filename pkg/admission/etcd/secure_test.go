package etcd

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/admission/etcd/etcdtest"
)

// An etcd that wants a certificate and a password gets them, with every request, of
// the lease and of the watch too; and a box that has something else is told what is
// wrong with it, and not that nobody answers.
func TestCertificatesAndPassword(t *testing.T) {
	t.Parallel()
	c, files := etcdtest.StartSecure(t, "/test/", "box", "correct")
	right := func(o *Options) {
		o.CAFile, o.CertFile, o.KeyFile = files.CA, files.Cert, files.Key
		o.Username, o.Password = "box", "correct"
		o.TTL, o.Timeout = 12*time.Second, 12*time.Second
	}
	a, b := box(t, c, "a", right), box(t, c, "b", right)
	mustTake(t, a, "1", 600)
	if _, ok, err := take(b, "1", 600); ok || err != nil {
		t.Errorf("600 of 400: %v, %v", ok, err)
	}
	mustTake(t, b, "1", 400)
	mustRemove(t, a, "1")
	eventually(t, 20*time.Second, "b sees what a gives back", func() bool { n, err := b.Sum(level); return n == 400 && err == nil })
	// On a busy machine a lease may end that nobody had time to keep alive.
	kept := func() bool {
		before := a.Status().Counters.Lost
		a.mu.Lock()
		first := a.until
		a.mu.Unlock()
		eventually(t, time.Minute, "a's lease is kept alive", func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			return a.until.After(first) && time.Now().After(first)
		})
		return a.Status().Counters.Lost == before
	}
	once := kept()
	for i := 0; i < 2 && !once; i++ {
		once = kept()
	}
	if !once {
		t.Errorf("%+v", a.Status().Counters)
	}

	// With TLS 1.3 a client learns of its certificate's refusal after its part of the
	// handshake, and may already have met that the connection is closed when it reads.
	closed := []string{"certificate", "broken pipe", "connection reset", "EOF"}
	other := etcdtest.Certify(t)
	for name, tt := range map[string]struct {
		change func(*Options)
		reason []string // one of these
	}{
		"another CA":         {func(o *Options) { o.CAFile = other.CA }, []string{"certificate signed by unknown authority"}},
		"nobody's signature": {func(o *Options) { o.CertFile, o.KeyFile = other.Cert, other.Key }, closed},
		"no certificate":     {func(o *Options) { o.CertFile, o.KeyFile = "", "" }, closed},
		"a wrong password":   {func(o *Options) { o.Password = "wrong" }, []string{"authentication failed"}},
		"no password":        {func(o *Options) { o.Username, o.Password = "", "" }, []string{"permission denied"}},
		"others' keys":       {func(o *Options) { o.Prefix = "/others" }, []string{"permission denied"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := box(t, c, "wrong", func(o *Options) { right(o); o.Timeout = 6 * time.Second; tt.change(o) })
			// On a busy machine the first try may have been too slow for an answer.
			eventually(t, 3*time.Minute, fmt.Sprintf("it says one of %q", tt.reason), func() bool {
				s := l.Status()
				return s.State == Unreachable && slices.ContainsFunc(tt.reason, func(r string) bool { return strings.Contains(s.Reason, r) })
			})
			if _, ok, err := take(l, "1", 1); ok || err == nil {
				t.Errorf("granted: %v, %v", ok, err)
			}
		})
	}
}
