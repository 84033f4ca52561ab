package integrity

import (
	"errors"
	"time"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Config are the parameters of a Link. Zero values stand for the defaults.
type Config struct {
	Keys []Key
	// Secure says which directions are secured, default Both (RFC 2747 section
	// 4). What is not secured passes as it is.
	Secure Use
	// Window is how many sequence numbers are kept: the tolerance of
	// reordering. 1 takes no message that was overtaken. Default 32.
	Window int

	// Handshake makes a sender prove that it is alive before its first message
	// is accepted. Without it the first message that arrives begins the
	// window, be it a replayed one (RFC 2747 section 4.3).
	Handshake bool
	// AcceptUnwilling accepts senders that do not answer challenges without
	// the handshake.
	AcceptUnwilling bool
	Retry           time.Duration // between challenges, default 1 s
	Tries           int           // challenges in all, default 5
	Secret          []byte        // for cookies: random, new at each start

	// Answer answers challenges and says so in what is signed.
	Answer bool
	// Flag is the bit that says so, default wire.HandshakeFlag.
	Flag         uint8
	ResponseRate int // answers in a second, default 20

	// MaxAssociations limits the senders and keys that are kept, default 1024.
	MaxAssociations int
	// Idle is how long a sender must have been silent to make room for another,
	// default 1 h. Only with Handshake, since forgetting forgets what would be
	// a replay.
	Idle time.Duration
	// TTL is the Send_TTL of handshake messages, default 255.
	TTL uint8
}

// Errors of a Config.
var (
	ErrCookieSecret = errors.New("integrity: handshake without a secret of at least 16 bytes")
	ErrLimit        = errors.New("integrity: negative limit")
	ErrFlag         = errors.New("integrity: handshake flag is neither 0x01 nor 0x80")
)

func (c Config) withDefaults() (Config, error) {
	if c.Window < 0 || c.Retry < 0 || c.Tries < 0 || c.ResponseRate < 0 || c.MaxAssociations < 0 || c.Idle < 0 {
		return c, ErrLimit
	}
	if c.Handshake && len(c.Secret) < 16 {
		return c, ErrCookieSecret
	}
	if c.Flag != 0 && c.Flag != wire.HandshakeFlag && c.Flag != wire.HandshakeFlagFigure {
		return c, ErrFlag
	}
	if c.Secure == 0 {
		c.Secure = Both
	}
	if c.Flag == 0 {
		c.Flag = wire.HandshakeFlag
	}
	if c.TTL == 0 {
		c.TTL = 255
	}
	for _, d := range []struct {
		v   *int
		def int
	}{{&c.Window, 32}, {&c.Tries, 5}, {&c.ResponseRate, 20}, {&c.MaxAssociations, 1024}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if c.Retry == 0 {
		c.Retry = time.Second
	}
	if c.Idle == 0 {
		c.Idle = time.Hour
	}
	return c, nil
}
