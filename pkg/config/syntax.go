package config

import (
	"bytes"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// The YAML parser is recursive and its time grows with the square of the
// number of keys in one mapping, so what it is given has limits. 2,000
// policies are about 600 kB and 110,000 tokens.
const (
	maxBytes  = 1 << 20
	maxTokens = 120_000
	maxDepth  = 32
)

// pos is a place in the file.
type pos struct{ line, col int }

// syntax parses the YAML and returns the top mapping, or nil after it has
// reported why there is none.
func (d *decoder) syntax(data []byte) ast.Node {
	start := pos{1, 1}
	if len(data) > maxBytes {
		d.errorf(start, "the file has %d bytes: at most %d are read", len(data), maxBytes)
		return nil
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if at, ok := firstBad(data); !ok {
		d.errorf(at, "not a character of a YAML file: save the file as plain UTF-8 text")
		return nil
	}
	file, err := d.parse(string(data))
	if err != nil {
		d.syntaxError(err)
		return nil
	}
	if file == nil {
		return nil
	}
	var body ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil:
		case body != nil:
			d.errorf(at(doc.Body), "a second YAML document: a config file is one document, remove the line ---")
			return nil
		default:
			body = doc.Body
		}
	}
	if body == nil {
		d.errorf(start, "the file is empty: it needs at least interfaces")
	}
	return body
}

// parse calls the YAML library. A panic in there is the library's bug, and
// must be no worse for the operator than a bad file.
func (d *decoder) parse(text string) (file *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			file, err = nil, errors.New("this is not YAML that can be read: check indentation, brackets and quotes")
		}
	}()
	tokens := lexer.Tokenize(text)
	if at, msg := tooMuch(tokens); msg != "" {
		d.errorf(at, "%s", msg)
		return nil, nil
	}
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
}

// tooMuch finds input that would cost the recursive parser its stack.
func tooMuch(tokens token.Tokens) (pos, string) {
	if len(tokens) > maxTokens {
		return pos{1, 1}, "the file is too large: at most 2000 policies are read"
	}
	depth, line, entries := 0, 0, 0
	for _, t := range tokens {
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType, token.MappingKeyType, token.MappingValueType, token.AnchorType, token.TagType:
			// Nested block collections on one line: "- - - x".
			if t.Position.Line != line {
				line, entries = t.Position.Line, 0
			}
			if depth == 0 {
				entries++
			}
		default:
		}
		if depth > maxDepth || entries > maxDepth || t.Position.IndentNum > 40*maxDepth {
			return pos{t.Position.Line, t.Position.Column}, "nested too deeply: no key of a config file needs this"
		}
	}
	return pos{}, ""
}

func (d *decoder) syntaxError(err error) {
	p, msg := pos{1, 1}, err.Error()
	if e, ok := errors.AsType[yaml.Error](err); ok {
		msg = e.GetMessage()
		if t := e.GetToken(); t != nil && t.Position != nil {
			p = pos{t.Position.Line, t.Position.Column}
		}
	}
	if strings.Contains(msg, "mapping value is not allowed") {
		msg += ": check the indentation, and quote a value that ends in a colon or has a colon and a space in it"
	}
	if strings.Contains(msg, "invalid key for this map") {
		msg += ": quote IPv6 addresses in a list, \"::/0\""
	}
	if strings.Contains(msg, "cannot start any token") && strings.Contains(msg, "\t") {
		msg = "a tab: YAML is indented with spaces"
	}
	d.errorf(p, "%s", strings.ToValidUTF8(strings.ReplaceAll(msg, "\n", " "), "?"))
}

// firstBad finds the first byte that is not UTF-8 or is a control character.
func firstBad(data []byte) (pos, bool) {
	p := pos{1, 1}
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		switch {
		case r == utf8.RuneError && n == 1, r < ' ' && r != '\n' && r != '\r' && r != '\t', r == 0x7f:
			return p, false
		case r == '\n':
			p = pos{p.line + 1, 1}
		default:
			p.col++
		}
		data = data[n:]
	}
	return p, true
}

// at returns where a node begins. A block collection's own token is a colon
// or a dash, its first key says where it begins.
func at(n ast.Node) pos {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		return at(m.Values[0].Key)
	}
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return pos{1, 1}
	}
	t := n.GetToken().Position
	return pos{max(t.Line, 1), max(t.Column, 1)}
}
