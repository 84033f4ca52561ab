package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// Options say where etcd is and who this box is.
type Options struct {
	Endpoints []string
	Prefix    string // of all keys, the same for all boxes that share
	Box       string // the box's name, another for each
	// Home is what only one process at a time can have on this machine, such as a
	// directory that is its own. A process that finds its box's name taken by one
	// with the same home takes it over at once; one with another home waits until
	// that one's lease has ended.
	Home string
	Host string // of this machine, for people

	TTL     time.Duration // of the lease: whole seconds
	Timeout time.Duration // a decision waits no longer for etcd

	CertFile, KeyFile, CAFile string // empty: no TLS, or what the machine trusts
	Username, Password        string

	Log *zap.Logger

	dial []grpc.DialOption // of tests
}

// tls reads the files of the options; nil: they name none.
func (o *Options) tls() (*tls.Config, error) {
	if o.CertFile == "" && o.CAFile == "" {
		return nil, nil //nolint:nilnil // no files are no TLS, and no error
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("the certificate that signs etcd's: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate in PEM form", o.CAFile)
		}
	}
	if o.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("the box's certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// client makes a client; nothing is connected yet.
func (o *Options) client(t *tries) (*clientv3.Client, error) {
	if len(o.Endpoints) == 0 {
		return nil, errors.New("no endpoints")
	}
	secure, err := o.tls()
	if err != nil {
		return nil, err
	}
	// A member that came back shall be tried again soon, not after minutes.
	again := backoff.DefaultConfig
	again.BaseDelay, again.MaxDelay = 100*time.Millisecond, 2*time.Second
	return clientv3.New(clientv3.Config{
		Endpoints: o.Endpoints, TLS: secure, Username: o.Username, Password: o.Password, Logger: o.Log.Named("client").WithOptions(zap.IncreaseLevel(zap.ErrorLevel)), // what it warns of is told here, once
		DialTimeout: o.Timeout, DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 3 * time.Second,
		DialOptions: append([]grpc.DialOption{
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: again, MinConnectTimeout: 2 * time.Second}), grpc.WithChainUnaryInterceptor(t.intercept),
		}, o.dial...),
	})
}
