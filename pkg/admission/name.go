package admission

import (
	"slices"
	"strings"
)

// sameName compares names as requests carry them. X.500 names (RFC 1779) may
// have spaces around their parts, and keys in any case.
func sameName(a, b string) bool {
	if a == b {
		return true
	}
	x, y := parts(a), parts(b)
	return x != nil && slices.Equal(x, y)
}

// isApplication says whether the name of an application is what a rule names: the
// same, the APP of a locator (RFC 2872 section 2), or, of an X.500 name, one
// with all that the rule names, so that a rule may leave out version and
// sub-application.
func isApplication(want, name string) bool {
	if sameName(want, name) {
		return true
	}
	has := parts(name)
	if needs := parts(want); needs != nil {
		return has != nil && !slices.ContainsFunc(needs, func(p part) bool { return !slices.Contains(has, p) })
	}
	return slices.Contains(has, part{"APP", want})
}

// part is one of an X.500 name.
type part struct{ key, value string }

// parts takes an X.500 name apart; nil: it is none.
func parts(s string) (list []part) {
	if !strings.Contains(s, "=") {
		return nil
	}
	for _, f := range fields(s) {
		key, value, ok := strings.Cut(f, "=")
		key, value = strings.ToUpper(strings.TrimSpace(key)), strings.TrimSpace(value)
		if !ok || key == "" || strings.ContainsAny(key, "\" \\") {
			return nil
		}
		if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
			value = value[1 : n-1]
		}
		list = append(list, part{key, unescape(value)})
	}
	return list
}

// fields splits at commas and semicolons that are neither quoted nor escaped (RFC
// 1779 section 2.3).
func fields(s string) (list []string) {
	quoted, escaped, from := false, false, 0
	for i, c := range []byte(s) {
		switch {
		case escaped:
			escaped = false
		case c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		case (c == ',' || c == ';') && !quoted:
			list = append(list, s[from:i])
			from = i + 1
		}
	}
	return append(list, s[from:])
}

func unescape(s string) string {
	if !strings.Contains(s, "\\") {
		return s
	}
	var b strings.Builder
	escaped := false
	for _, c := range s {
		if escaped = c == '\\' && !escaped; !escaped {
			b.WriteRune(c)
		}
	}
	return b.String()
}
