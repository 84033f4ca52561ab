package integration

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/netns"
)

// conversation is how two programs use a connection: what is said, how often,
// and between whom. All of its bytes follow from the seed, so either side knows
// what it must get.
type conversation struct {
	client, server *netns.NetNS
	addr           netip.AddrPort
	cc             string // of the client's connection, "": the host's own
	rounds         int    // requests, or keys
	ask, tell      int    // bytes of the last request of web, and of its answer
	seed           uint64
	// ready is called when the connection is there and has been used; what
	// follows waits for it. It may be nil.
	ready func() error
}

// patience bounds a conversation over the worst of paths.
const patience = 2 * time.Minute

func (c *conversation) dial(ctx context.Context) (*net.TCPConn, error) {
	var conn *net.TCPConn
	var err error
	for range 4 { // a SYN lost over and over outlasts one attempt
		if conn, err = tryDial(ctx, c.client, c.addr); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	if c.cc != "" {
		err = combination{cc: c.cc}.choose(conn)
	}
	return conn, errors.Join(err, conn.SetDeadline(time.Now().Add(patience)))
}

func (c *conversation) listen(ctx context.Context) (net.Listener, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	var ln net.Listener
	err := c.server.Do(func() (err error) {
		ln, err = config.Listen(ctx, "tcp", c.addr.String())
		return err
	})
	return ln, err
}

func (c *conversation) isReady() error {
	if c.ready == nil {
		return nil
	}
	return c.ready()
}

// selfSigned makes a certificate for an address, and what has to be known to
// trust it.
func selfSigned(addr netip.Addr) (tls.Certificate, *x509.CertPool, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	now := time.Now()
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IPAddresses: []net.IP{addr.AsSlice()}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(crand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool, nil
}

// Header fields with which both sides of web tell what they have got and want.
const (
	sumHeader  = "X-Sum"  // SHA-256 of the body with it
	sizeHeader = "X-Size" // of the answer's body that is wanted
)

func sumOf(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// web has requests of HTTP/1.1 answered over one connection that is kept, in
// TLS or without, the last of them with a large body each way.
func (c *conversation) web(ctx context.Context, secure bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ln, err := c.listen(ctx)
	if err != nil {
		return err
	}
	transport := &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		MaxConnsPerHost:    1,
		DisableCompression: true,
		Protocols:          new(http.Protocols), // HTTP/1.1
	}
	transport.Protocols.SetHTTP1(true)
	scheme := "http://"
	if secure {
		cert, pool, err := selfSigned(c.addr.Addr())
		if err != nil {
			return errors.Join(err, ln.Close())
		}
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13})
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}
		scheme = "https://"
	}
	var conns atomic.Int64
	server := http.Server{
		Handler: http.HandlerFunc(obey), ReadHeaderTimeout: patience,
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				conns.Add(1)
			}
		},
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	client := &http.Client{Transport: transport}
	err = c.requests(ctx, client, scheme+c.addr.String()+"/")
	transport.CloseIdleConnections()
	// The server ends when its connections have.
	err = errors.Join(err, server.Shutdown(ctx))
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	if n := conns.Load(); err == nil && n != 1 {
		err = fmt.Errorf("%d connections for what one is enough for", n)
	}
	return err
}

// obey is the server: it tells whether it got what was sent, and sends as much
// as is wanted.
func obey(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	n, sizeErr := strconv.Atoi(r.Header.Get(sizeHeader))
	if err := errors.Join(err, sizeErr); err != nil || sumOf(body) != r.Header.Get(sumHeader) {
		http.Error(w, fmt.Sprintf("%d bytes that are not those sent, %v", len(body), err), http.StatusBadRequest)
		return
	}
	out := random(uint64(n+len(body)), n)
	w.Header().Set(sumHeader, sumOf(out))
	_, _ = w.Write(out) // the client misses what could not be written
}

func (c *conversation) requests(ctx context.Context, client *http.Client, url string) error {
	g := rand.New(rand.NewPCG(c.seed, 1))
	for i := range c.rounds {
		body, want := g.IntN(3000), g.IntN(10_000)
		if i == c.rounds-1 {
			body, want = c.ask, c.tell
		}
		data := random(c.seed+uint64(i), body)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(data))
		if err != nil {
			return err
		}
		req.Header.Set(sumHeader, sumOf(data))
		req.Header.Set(sizeHeader, strconv.Itoa(want))
		res, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("request %d: %w", i, err)
		}
		got, err := io.ReadAll(res.Body)
		err = errors.Join(err, res.Body.Close())
		switch {
		case err != nil:
			return fmt.Errorf("answer %d after %d bytes: %w", i, len(got), err)
		case res.StatusCode != http.StatusOK:
			return fmt.Errorf("answer %d: %s: %.200s", i, res.Status, got)
		case len(got) != want || sumOf(got) != res.Header.Get(sumHeader):
			return fmt.Errorf("answer %d: %d bytes of %d, and they are not those sent", i, len(got), want)
		}
		if i == 0 {
			if err := c.isReady(); err != nil {
				return err
			}
		}
	}
	return nil
}

// What a shell's session sends: a key and its echo have keyBytes each, as SSH
// pads them.
const (
	keyBytes  = 36
	lastWords = 700 // of the server, after the client has closed its side
	pasted    = 20  // keys that do not wait for their echo
)

// output is what the server says to a key: its echo, now and then a command's
// output, and sometimes a line that nobody has asked for.
func (c *conversation) output(i int) []byte {
	n := keyBytes
	switch {
	case i%10 == 9:
		n += 500 + i*37%3000
	case i%7 == 3:
		n += keyBytes
	}
	return random(c.seed+uint64(i), n)
}

func (c *conversation) key(i int) []byte { return random(c.seed+0x8000+uint64(i), keyBytes) }

// shell is an interactive session: small segments both ways with gaps between,
// some of them long, a few keys at once, and an end that the client begins and
// the server has the last words of. It returns what the echoes took.
func (c *conversation) shell(ctx context.Context) ([]time.Duration, error) {
	ln, err := c.listen(ctx)
	if err != nil {
		return nil, err
	}
	served := make(chan error, 1)
	go func() { served <- c.shellServer(ln) }()
	took, err := c.shellClient(ctx)
	// Without a client the server waits for nobody.
	err = errors.Join(err, ln.Close())
	return took, errors.Join(err, <-served)
}

func (c *conversation) shellServer(ln net.Listener) error {
	conn, err := ln.Accept()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	key := make([]byte, keyBytes)
	for i := 0; ; i++ {
		switch _, err := io.ReadFull(conn, key); {
		case errors.Is(err, io.EOF):
			time.Sleep(50 * time.Millisecond) // a program takes a moment to end
			_, err = conn.Write(random(c.seed, lastWords))
			return err
		case err != nil:
			return fmt.Errorf("server, key %d: %w", i, err)
		case !bytes.Equal(key, c.key(i)):
			return fmt.Errorf("server: key %d is not what was typed", i)
		}
		out := c.output(i)
		// As programs write: the echo, and then the rest.
		if _, err := conn.Write(out[:keyBytes]); err != nil {
			return fmt.Errorf("echo %d: %w", i, err)
		}
		if _, err := conn.Write(out[keyBytes:]); err != nil {
			return fmt.Errorf("output %d: %w", i, err)
		}
	}
}

func (c *conversation) shellClient(ctx context.Context) ([]time.Duration, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	g := rand.New(rand.NewPCG(c.seed, 2))
	var took []time.Duration
	expect := func(i int) error {
		want := c.output(i)
		got := make([]byte, len(want))
		if n, err := io.ReadFull(conn, got); err != nil {
			return fmt.Errorf("echo %d after %d of %d bytes: %w", i, n, len(want), err)
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("echo %d is not what was typed", i)
		}
		return nil
	}
	for i := range c.rounds {
		if i == 1 {
			if err := c.isReady(); err != nil {
				return nil, err
			}
		}
		begin := time.Now()
		if _, err := conn.Write(c.key(i)); err != nil {
			return nil, fmt.Errorf("key %d: %w", i, err)
		}
		if err := expect(i); err != nil {
			return nil, err
		}
		took = append(took, time.Since(begin))
		gap := time.Duration(g.IntN(30)) * time.Millisecond
		switch {
		case i == c.rounds/2:
			gap = 1200 * time.Millisecond // what was sent before is forgotten
		case i%8 == 7:
			gap = 250 * time.Millisecond // longer than a timeout
		}
		time.Sleep(gap)
	}
	for i := c.rounds; i < c.rounds+pasted; i++ {
		if _, err := conn.Write(c.key(i)); err != nil {
			return nil, fmt.Errorf("key %d: %w", i, err)
		}
	}
	for i := c.rounds; i < c.rounds+pasted; i++ {
		if err := expect(i); err != nil {
			return nil, err
		}
	}
	if err := conn.CloseWrite(); err != nil {
		return nil, err
	}
	got, err := io.ReadAll(conn)
	if err != nil {
		return nil, fmt.Errorf("%d bytes after the end of what was typed, want %d: %w", len(got), lastWords, err)
	}
	if !bytes.Equal(got, random(c.seed, lastWords)) {
		return nil, fmt.Errorf("%d bytes after the end of what was typed are not the %d that were sent", len(got), lastWords)
	}
	return took, nil
}
