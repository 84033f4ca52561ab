package config

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/goccy/go-yaml/ast"
)

const (
	maxKeys  = 64        // of one interface
	maxKeyID = 1<<48 - 1 // RFC 2747 section 2.1
)

type rawKey struct {
	block
	id          opt[int]
	algorithm   opt[string]
	file        opt[string]
	from, until opt[time.Time]
	neighbor    opt[netip.Addr]
}

func (d *decoder) integrityKey(n ast.Node, what string) rawKey {
	const when = "a time such as 2027-01-31T00:00:00Z"
	var k rawKey
	k.block = d.mapping(n, what, map[string]field{
		"id":        number(&k.id, 0, maxKeyID),
		"algorithm": oneOf(&k.algorithm, algorithmWords),
		"key_file":  text(&k.file, "the path of a file"),
		"from":      one(&k.from, parseTime, when),
		"until":     one(&k.until, parseTime, when),
		"neighbor":  one(&k.neighbor, parseNeighbor, "a neighbour's address"),
	})
	return k
}

// one is a field that takes one value of a type that text stands for.
func one[T any](o *opt[T], parse func(string) (T, error), want string) field {
	return func(d *decoder, n ast.Node, key string) {
		s, ok := d.scalar(n, key, want)
		if !ok {
			return
		}
		v, err := parse(s)
		if err != nil {
			d.errorf(at(n), "%s: %v", key, err)
			return
		}
		o.put(v, n)
	}
}

// parseTime reads a time of RFC 3339: without its offset from UTC a time means
// something else on every box.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("bad time %s: write for example 2027-01-31T00:00:00Z, or with an offset 2027-01-31T01:00:00+01:00", quote(s))
	}
	return t.UTC(), nil
}

func parseNeighbor(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("bad address %s: write the address that the neighbour has on this interface, for example 192.0.2.1", quote(s))
	}
	if err := plainAddr(a); err != nil {
		return netip.Addr{}, err
	}
	if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
		return netip.Addr{}, fmt.Errorf("%s is no neighbour's address", a)
	}
	return a, nil
}

// integrity checks the keys of an interface against each other.
func (d *decoder) integrity(i *rawInterface) []IntegrityKey {
	if len(i.keys) == 0 && i.missing("integrity") {
		for _, o := range []struct {
			key string
			set bool
			at  pos
		}{
			{"integrity_handshake", i.handshake.set, i.handshake.at},
			{"integrity_window", i.window.set, i.window.at},
		} {
			if o.set {
				d.errorf(o.at, "%s is about signed messages, and there is no key to sign with: add integrity: with keys, or remove it", o.key)
			}
		}
	}
	type name struct {
		id       int
		neighbor netip.Addr
	}
	list := make([]IntegrityKey, 0, len(i.keys))
	first := map[name]pos{}
	for n := range i.keys {
		k := &i.keys[n]
		d.keyComplete(k)
		if k.id.set {
			who := name{k.id.v, k.neighbor.v}
			if p, ok := first[who]; ok {
				d.errorf(k.id.at, "key %d is given twice for the same neighbours, first in line %d: give each key an id of its own", k.id.v, p.line)
			} else {
				first[who] = k.id.at
			}
		}
		list = append(list, IntegrityKey{
			ID: uint64(k.id.v), Algorithm: k.algorithm.v, KeyFile: k.file.v,
			From: k.from.v, Until: k.until.v, Neighbor: k.neighbor.v, Line: k.at.line,
		})
	}
	if len(list) == 0 {
		return nil
	}
	return list
}

func (d *decoder) keyComplete(k *rawKey) {
	if k.missing("id") {
		d.errorf(k.at, "this key has no id: add id: with the number that both neighbours know it by")
	}
	if k.missing("algorithm") { // RFC 2747 section 5.2: for each key
		d.errorf(k.at, "this key has no algorithm: add algorithm: hmac-sha256, or what the neighbour speaks")
	}
	if k.missing("key_file") {
		d.errorf(k.at, "this key has no secret: add key_file: with the path of a file that holds it and that others cannot read")
	}
	d.path("key_file", k.file, "/etc/qosproxy/wan0.key", maxPath)
	if k.from.set && k.until.set && !k.until.v.After(k.from.v) {
		d.errorf(k.until.at, "until is not after from, so that the key is never valid: correct one of them")
	}
}
