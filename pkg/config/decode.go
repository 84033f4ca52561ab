package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// decoder walks the YAML tree and collects every error.
type decoder struct {
	file string
	errs Errors
}

func (d *decoder) errorf(p pos, format string, args ...any) {
	d.errs = append(d.errs, &Error{File: d.file, Line: p.line, Col: p.col, Msg: fmt.Sprintf(format, args...)})
}

// opt is a raw value with its place.
type opt[T any] struct {
	v   T
	at  pos
	set bool
}

func (o *opt[T]) put(v T, n ast.Node) { o.v, o.at, o.set = v, at(n), true }

// or returns the value, or the default where the file has none.
func (o opt[T]) or(v T) T {
	if o.set {
		return o.v
	}
	return v
}

// field decodes the value of one key.
type field func(d *decoder, n ast.Node, key string)

// later is the field of a key that is in the contract but not built yet.
func later(d *decoder, n ast.Node, key string) {
	d.errorf(at(n), "%s: not in this version, remove it", key)
}

// block is where a mapping begins and which keys it has, whether or not their
// values are good: a key with a bad value is not missing.
type block struct {
	at   pos
	keys map[string]pos // nil: the mapping could not be read
}

func (b block) missing(key string) bool {
	_, ok := b.keys[key]
	return b.keys != nil && !ok
}

// has says whether the key is there, whatever its value is.
func (b block) has(key string) bool {
	_, ok := b.keys[key]
	return ok
}

// mapping decodes a mapping whose keys are the given fields.
func (d *decoder) mapping(n ast.Node, what string, fields map[string]field) block {
	m, ok := n.(*ast.MappingNode)
	if !ok {
		d.errorf(at(n), "%s must be a mapping of keys and values, not %s (keys: %s)", what, kind(n), known(fields))
		return block{at: at(n)}
	}
	seen := make(map[string]pos, len(m.Values))
	for _, kv := range m.Values {
		key, ok := kv.Key.(ast.Node).(*ast.StringNode)
		if !ok {
			d.errorf(at(kv.Key), "%s: %s cannot be a key here (keys: %s)", what, keyKind(kv.Key), known(fields))
			continue
		}
		p := at(key)
		if first, ok := seen[key.Value]; ok {
			d.errorf(p, "%s: %s is given twice, first in line %d: remove one", what, quote(key.Value), first.line)
			continue
		}
		seen[key.Value] = p
		f, ok := fields[key.Value]
		if !ok {
			d.errorf(p, "%s: unknown key %s%s (keys: %s)", what, quote(key.Value), suggest(key.Value, fields), known(fields))
			continue
		}
		if isNull(kv.Value) {
			d.errorf(p, "%s has no value: give one or remove the key", key.Value)
			continue
		}
		if isLater(f) {
			d.errorf(p, "%s: not in this version, remove it", key.Value)
			continue
		}
		f(d, kv.Value, key.Value)
	}
	return block{at: at(n), keys: seen}
}

// scalar returns the text of a value as it stands in the file.
func (d *decoder) scalar(n ast.Node, key, want string) (string, bool) {
	switch v := n.(type) {
	case *ast.StringNode:
		return v.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	case *ast.MappingNode:
		// The YAML library takes an unquoted IPv6 address in a list for a
		// mapping: [2001:db8::1] is {2001: "db8::1"} to it.
		if s, ok := colons(v); ok {
			return s, true
		}
	}
	d.errorf(at(n), "%s must be %s, not %s", key, want, kind(n))
	return "", false
}

// colons gives back text that was taken for a mapping although no space
// follows its colon.
func colons(m *ast.MappingNode) (string, bool) {
	if m.IsFlowStyle || len(m.Values) != 1 {
		return "", false
	}
	kv := m.Values[0]
	k, c, v := kv.Key.GetToken(), kv.Start, kv.Value.GetToken()
	if k == nil || c == nil || v == nil || c.Type != token.MappingValueType {
		return "", false
	}
	if _, ok := kv.Value.(ast.ScalarNode); !ok || quoted(k) || quoted(v) {
		return "", false
	}
	same := k.Position.Line == c.Position.Line && c.Position.Line == v.Position.Line
	if !same || k.Position.Column+len(k.Value) != c.Position.Column || c.Position.Column+1 != v.Position.Column {
		return "", false
	}
	return k.Value + ":" + v.Value, true
}

func quoted(t *token.Token) bool {
	return t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType
}

// text is a field that takes a string.
func text(o *opt[string], want string) field {
	return func(d *decoder, n ast.Node, key string) {
		if s, ok := n.(*ast.StringNode); ok {
			o.put(s.Value, n)
			return
		}
		if t, ok := n.(ast.ScalarNode); ok && !isNull(n) && n.Type() != ast.LiteralType {
			d.errorf(at(n), "%s must be %s: write it in quotes, %q", key, want, t.GetToken().Value)
			return
		}
		d.errorf(at(n), "%s must be %s, not %s", key, want, kind(n))
	}
}

// oneOf is a field that takes one of a few words.
func oneOf[T any](o *opt[T], list []choice[T]) field {
	return func(d *decoder, n ast.Node, key string) {
		words := make([]string, 0, len(list))
		for _, c := range list {
			words = append(words, c.word)
		}
		all := strings.Join(words, " or ")
		s, ok := d.scalar(n, key, all)
		if !ok {
			return
		}
		for _, c := range list {
			if c.word == s {
				o.put(c.value, n)
				return
			}
		}
		d.errorf(at(n), "%s: unknown value %s: write %s", key, quote(s), all)
	}
}

// factor is a field with a number that may have a fraction.
func factor(o *opt[float64], low, high float64) field {
	want := fmt.Sprintf("a number without a unit from %g to %g, such as 2 or 1.5", low, high)
	return func(d *decoder, n ast.Node, key string) {
		s, ok := d.scalar(n, key, want)
		if !ok {
			return
		}
		v, err := strconv.ParseFloat(s, 64)
		if err != nil || !(v >= low && v <= high) {
			d.errorf(at(n), "%s: %s is not %s", key, quote(s), want)
			return
		}
		o.put(v, n)
	}
}

// number is a field that takes a whole number without a unit.
func number(o *opt[int], low, high uint64) field {
	return func(d *decoder, n ast.Node, key string) {
		if _, ok := n.(*ast.IntegerNode); !ok {
			d.errorf(at(n), "%s must be a whole number without a unit or quotes, from %d to %d, not %s", key, low, high, kind(n))
			return
		}
		s := n.GetToken().Value
		v, err := decimal(s)
		if err != nil || v < low || v > high {
			d.errorf(at(n), "%s: %s is not a whole number from %d to %d", key, quote(s), low, high)
			return
		}
		o.put(int(v), n)
	}
}

// quantityOf is a field that takes a number with a unit.
func quantityOf[T uint64 | time.Duration](o *opt[T], parse func(string) (T, error), low, high T, want string) field {
	return func(d *decoder, n ast.Node, key string) {
		s, ok := d.scalar(n, key, want)
		if !ok {
			return
		}
		v, err := parse(s)
		switch {
		case err != nil:
			d.errorf(at(n), "%s: %v", key, err)
		case v < low || v > high:
			d.errorf(at(n), "%s: %s is out of range: give %s", key, s, want)
		default:
			o.put(v, n)
		}
	}
}

// orAuto is a field that takes the word auto, which puts 0, and what another
// takes.
func orAuto(o *opt[uint64], other field) field {
	return func(d *decoder, n ast.Node, key string) {
		if s, ok := n.(*ast.StringNode); ok && s.Value == "auto" {
			o.put(0, n)
			return
		}
		other(d, n, key)
	}
}

// phb is a field that takes a PHB name or a code point.
func phb(o *opt[uint8]) field {
	return func(d *decoder, n ast.Node, key string) {
		s, ok := d.scalar(n, key, "a PHB name or a number from 0 to 63")
		if !ok {
			return
		}
		v, err := dscp.Parse(s)
		if err != nil {
			d.errorf(at(n), "%s: %v", key, err)
			return
		}
		o.put(v, n)
	}
}

// listOf is a field that takes one value or a list of them.
func listOf[T any](o *opt[[]T], parse func(string) (T, error), want string) field {
	const most = 256
	return func(d *decoder, n ast.Node, key string) {
		nodes := []ast.Node{n}
		if seq, ok := n.(*ast.SequenceNode); ok {
			nodes = seq.Values
			if len(nodes) == 0 {
				d.errorf(at(n), "%s is an empty list, which matches nothing: give %s, or remove the key to match all", key, want)
				return
			}
			if len(nodes) > most {
				d.errorf(at(n), "%s has %d entries, at most %d are allowed: use larger blocks or another policy", key, len(nodes), most)
				return
			}
		}
		list := make([]T, 0, len(nodes))
		for _, e := range nodes {
			s, ok := d.scalar(e, key, want)
			if !ok {
				continue
			}
			v, err := parse(s)
			if err != nil {
				d.errorf(at(e), "%s: %v", key, err)
				continue
			}
			list = append(list, v)
		}
		o.put(list, n)
	}
}

// rows is a field that takes a list of mappings.
func rows(most int, row func(d *decoder, n ast.Node, what string)) field {
	return func(d *decoder, n ast.Node, key string) {
		seq, ok := n.(*ast.SequenceNode)
		if !ok {
			d.errorf(at(n), "%s must be a list: begin each entry with a dash (- name: ...), not %s", key, kind(n))
			return
		}
		if len(seq.Values) > most {
			d.errorf(at(n), "%s has %d entries, at most %d are read", key, len(seq.Values), most)
			return
		}
		for i, e := range seq.Values {
			row(d, e, fmt.Sprintf("%s[%d]", key, i))
		}
	}
}

func known(fields map[string]field) string {
	var list []string
	for k, f := range fields {
		if !isLater(f) {
			list = append(list, k)
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
