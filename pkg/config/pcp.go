package config

import (
	"github.com/goccy/go-yaml/ast"

	"github.com/qosproxy/qosproxy/pkg/dscp"
)

// maxPCP: the priority in a VLAN tag has three bits (IEEE 802.1Q).
const maxPCP = 7

// pcpOf is a field that takes the word keep, or a mapping of PHBs to priorities.
func pcpOf(o *opt[map[uint8]uint8]) field {
	const want = "keep or a mapping of PHBs to priorities from 0 to 7, such as {ef: 5, af31: 4}"
	return func(d *decoder, n ast.Node, key string) {
		if s, ok := n.(*ast.StringNode); ok && s.Value == "keep" {
			o.put(nil, n)
			return
		}
		m, ok := n.(*ast.MappingNode)
		if !ok {
			d.errorf(at(n), "%s must be %s, not %s", key, want, kind(n))
			return
		}
		if len(m.Values) == 0 {
			d.errorf(at(n), "%s is an empty mapping: write keep, or give PHBs their priorities, such as {ef: 5, af31: 4}", key)
			return
		}
		out, lines := map[uint8]uint8{}, map[uint8]int{}
		for _, kv := range m.Values {
			name, ok := kv.Key.(ast.Node)
			if !ok {
				d.errorf(at(kv.Key), "%s: %s cannot be a PHB", key, keyKind(kv.Key))
				continue
			}
			var code opt[uint8]
			var to opt[int]
			phb(&code)(d, name, key)
			number(&to, 0, maxPCP)(d, kv.Value, key)
			if !code.set || !to.set {
				continue
			}
			if line, twice := lines[code.v]; twice {
				d.errorf(at(name), "%s: %s is given twice, first in line %d: remove one", key, dscp.Name(code.v), line)
				continue
			}
			out[code.v], lines[code.v] = uint8(to.v), at(name).line
		}
		o.put(out, n)
	}
}
