package config

import (
	"fmt"
	"reflect"
	"strconv"

	"github.com/goccy/go-yaml/ast"
)

// kind says what a YAML node is, in an operator's words.
func kind(n ast.Node) string {
	switch n.(type) {
	case *ast.NullNode:
		return "nothing"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.LiteralNode:
		return "a text block"
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "a YAML anchor or alias (write the value out)"
	case *ast.TagNode:
		return "a YAML tag (write the value without it)"
	case *ast.StringNode:
		return "text " + quote(n.GetToken().Value)
	case *ast.BoolNode, *ast.FloatNode, *ast.IntegerNode, *ast.InfinityNode, *ast.NanNode:
		return quote(n.GetToken().Value)
	default:
		return "this"
	}
}

func keyKind(n ast.MapKeyNode) string {
	if n.IsMergeKey() {
		return "a YAML merge (<<)"
	}
	return kind(n)
}

func isNull(n ast.Node) bool {
	if n == nil {
		return true
	}
	_, ok := n.(*ast.NullNode)
	return ok
}

// quote quotes text from the file for a message, and cuts it where it is long.
func quote(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return strconv.Quote(string(r[:most])) + "..."
	}
	return strconv.Quote(s)
}

// isLater reports whether a field is the one that refuses its key.
func isLater(f field) bool {
	return reflect.ValueOf(f).Pointer() == reflect.ValueOf(later).Pointer()
}

// suggest finds the known key that an unknown one was probably meant to be.
func suggest(key string, fields map[string]field) string {
	best, cost := "", 3
	for k := range fields {
		if c := distance(key, k); c < cost || c == cost && best != "" && k < best {
			best, cost = k, c
		}
	}
	if best == "" || cost >= len(best) {
		return ""
	}
	return fmt.Sprintf(", did you mean %s?", best)
}

// distance is the Levenshtein distance, for short words only.
func distance(a, b string) int {
	if len(a) > 32 || len(b) > 32 {
		return 32
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diag
			if a[i] != b[j] {
				change++
			}
			diag = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
