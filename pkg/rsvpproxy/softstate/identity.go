package softstate

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// Identity is a user or an application that a request names (RFC 3182). Nothing
// of it is proved here: it is as good as the INTEGRITY of the interface that it
// came by.
type Identity struct {
	Said wire.Identity
	// Names are its policy locators and credentials that are plain text: what
	// others cannot be told from, by length or by characters, is no name.
	Names []string
	Text  string  // for people
	Resv  bool    // RESV names it; else PATH
	From  IfIndex // by which that came
}

// App says whether it is an application (RFC 2872); else it is a user.
func (i *Identity) App() bool { return i.Said.Type == wire.AuthApp }

func (i *Identity) same(o *Identity) bool {
	return i.App() == o.App() && i.Text == o.Text && i.Resv == o.Resv && i.From == o.From && slices.Equal(i.Names, o.Names)
}

func sameIdentities(a, b []Identity) bool {
	return slices.EqualFunc(a, b, func(x, y Identity) bool { return x.same(&y) })
}

// Denial is what policy has against an identity, to be told along with the
// error (RFC 3182 section 3.3.4).
type Denial struct {
	Who   wire.Identity // as it was said; zero: nobody was named
	Value uint16        // such as [wire.AuthInsufficientPrivileges]; 0: a user is missing
}

// maxReturned bounds the attributes that are sent back.
const maxReturned = 1 << 10 // bytes

// object is the POLICY_DATA of a denial. What identity has to be there is told by
// an empty element (RFC 2750 Appendix A, value 14); else the one that was said
// has the reason added, and its signature, which would not hold any more, left out.
func (d *Denial) object(text string) (wire.Object, error) {
	id := wire.Identity{Type: wire.AuthUser}
	if d.Who.Type != 0 {
		id.Type = d.Who.Type
	}
	if d.Value != 0 {
		size := 0
		for _, a := range d.Who.Attributes {
			if size += len(a.Value); a.Type != wire.AuthDigitalSignature && a.Type != wire.AuthPolicyError && size <= maxReturned {
				id.Attributes = append(id.Attributes, a)
			}
		}
		id.Attributes = append(id.Attributes, wire.NewAuthError(d.Value, printable(text)))
	}
	e, err := id.Element()
	if err != nil {
		return wire.Object{}, err
	}
	return (&wire.PolicyData{Elements: []wire.PolicyElement{e}}).Object()
}

// identities are those of the requests that count, then those of the senders'
// PATHs, so many at most: who asks first of all is who receives.
func (t *tcsb) identities() (out []Identity) {
	add := func(list []Identity, from IfIndex, resv bool) {
		for _, i := range list {
			i.From, i.Resv = from, resv
			if len(out) < 2*maxIdentities && !slices.ContainsFunc(out, func(o Identity) bool { return o.same(&i) }) {
				out = append(out, i)
			}
		}
	}
	for _, r := range t.asking() {
		add(r.said.identities, r.from, true)
	}
	t.senders(func(p *psb) { add(p.said.identities, p.in, false) })
	return out
}

// identities are those of PATH, then those of the requests, once each.
func (p *psb) identities() (out []string) {
	add := func(list []Identity) {
		for _, i := range list {
			if !slices.Contains(out, i.Text) && len(out) < 2*maxIdentities {
				out = append(out, i.Text)
			}
		}
	}
	add(p.said.identities)
	p.reservations(func(t *tcsb) {
		for _, r := range t.asking() {
			add(r.said.identities)
		}
	})
	return out
}

// newIdentity reads what an identity is and calls itself.
func newIdentity(id wire.Identity) Identity {
	out := Identity{Said: id}
	words := []string{"user"}
	if id.Type == wire.AuthApp {
		words[0] = "application"
	}
	name := func(s string) {
		words = append(words, printable(s))
		if s = strings.TrimRight(s, "\x00"); s != "" && printable(s) == s {
			out.Names = append(out.Names, s)
		}
	}
	for _, a := range id.Attributes {
		switch {
		case a.Type == wire.AuthPolicyLocator && a.SubType == wire.LocatorASCII, a.Type == wire.AuthCredential && a.SubType == wire.CredentialASCII:
			name(string(a.Value))
		case a.Type == wire.AuthPolicyLocator && a.SubType == wire.LocatorUnicode, a.Type == wire.AuthCredential && a.SubType == wire.CredentialUnicode:
			name(fromUTF16(a.Value))
		case a.Type == wire.AuthPolicyLocator:
			words = append(words, "(encrypted name)")
		case a.Type == wire.AuthCredential && a.SubType == wire.CredentialKerberos:
			words = append(words, "(Kerberos ticket)")
		case a.Type == wire.AuthCredential && a.SubType == wire.CredentialX509:
			words = append(words, "(X.509 certificate)")
		case a.Type == wire.AuthCredential && a.SubType == wire.CredentialPGP:
			words = append(words, "(PGP certificate)")
		}
	}
	out.Text = printable(strings.Join(words, " "))
	return out
}

// fromUTF16 reads Unicode text, two bytes a character and the high one first.
func fromUTF16(b []byte) string {
	u := make([]uint16, 0, len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		u = append(u, uint16(b[0])<<8|uint16(b[1]))
	}
	return string(utf16.Decode(u))
}

// printable makes text of a stranger fit for a table.
func printable(s string) string {
	out := make([]rune, 0, min(len(s), maxIdentity))
	for _, c := range strings.TrimRight(s, "\x00") {
		if len(out) == maxIdentity {
			break
		}
		if !unicode.IsPrint(c) {
			c = '?'
		}
		out = append(out, c)
	}
	return string(out)
}
