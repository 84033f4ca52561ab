package bridge

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// change is one thing that is not as it was found.
type change struct {
	Kind  string `json:"kind"`
	Link  string `json:"link,omitempty"` // whose it is
	Index int    `json:"index,omitempty"`
	Key   string `json:"key,omitempty"`
	Was   string `json:"was"`
	Set   string `json:"set"`
}

// Kinds of changes.
const (
	kindMade   = "made"   // the bridge itself
	kindMaster = "master" // the bridge that a port is in
	kindFlag   = "flag"   // of an interface, by the names of flagBits
	kindGen    = "genmode"
	kindOwn    = "bridge" // an attribute of a bridge
	kindPort   = "port"   // an attribute of a port
	kindSysctl = "sysctl" // Key is the path
)

var flagBits = map[string]uint32{"up": unix.IFF_UP, "noarp": unix.IFF_NOARP}

// genNone: IPv6 makes no link-local address.
const genNone = "1"

func (c *change) same(o change) bool {
	return c.Kind == o.Kind && c.Link == o.Link && c.Index == o.Index && c.Key == o.Key
}

func (c *change) String() string {
	return strings.Join(strings.Fields(fmt.Sprintf("%s %s %s", c.Kind, c.Link, c.Key)), " ")
}

// state changes the kernel, and reads what is there.
type state struct {
	*kernel
	sysctls string // the directory of all sysctls
}

// now is the value that something has; false: there is no such thing, or it is another
// interface of that name.
func (s *state) now(all links, c *change) (string, bool) {
	if c.Kind == kindSysctl {
		if !filepath.IsLocal(c.Key) { // in a record that is none
			return "", false
		}
		if c.Link != "" && s.whose(all, c) == nil {
			return "", false
		}
		b, err := os.ReadFile(filepath.Join(s.sysctls, c.Key))
		return strings.TrimSpace(string(b)), err == nil
	}
	l := s.whose(all, c)
	if l == nil {
		return "", false
	}
	attr := func(known []attr, of map[uint16][]byte) (string, bool) {
		a, err := attrNamed(known, c.Key)
		if err != nil {
			return "", false
		}
		v, ok := a.of(of)
		return strconv.FormatUint(v, 10), ok
	}
	switch c.Kind {
	case kindMade:
		return "there", l.kind == kindBridge
	case kindMaster:
		if m := all.at(l.master); m != nil {
			return m.name, true
		}
		return "", l.master == 0
	case kindFlag:
		return strconv.FormatBool(l.flags&flagBits[c.Key] != 0), true
	case kindGen:
		return l.genMode, l.genMode != ""
	case kindOwn:
		return attr(madeAttrs, l.own)
	case kindPort:
		return attr(portAttrs, l.port)
	}
	return "", false
}

func (s *state) whose(all links, c *change) *link {
	l := all.named(c.Link)
	if l == nil || c.Index != 0 && l.index != c.Index {
		return nil
	}
	return l
}

// put gives something a value.
func (s *state) put(all links, c *change, value string) error {
	err := s.putAs(all, c, value)
	if c.Kind == kindMaster && (errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ELOOP)) {
		return fmt.Errorf("interface %s cannot be a port of a bridge (%w): it is none of Ethernet, or something else takes its packets, such as a macvlan: list another one, or remove that", c.Link, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", c, err)
	}
	return nil
}

func (s *state) putAs(all links, c *change, value string) error {
	if c.Kind == kindSysctl {
		return os.WriteFile(filepath.Join(s.sysctls, c.Key), []byte(value), 0o644)
	}
	if c.Kind == kindMade && value != "" {
		return s.create(c.Link)
	}
	l := s.whose(all, c)
	if l == nil {
		return errGone
	}
	switch c.Kind {
	case kindMade:
		return s.remove(l.index)
	case kindMaster:
		if value == "" {
			return s.setMaster(l.index, 0)
		}
		m := all.named(value)
		if m == nil {
			return errGone
		}
		return s.setMaster(l.index, m.index)
	case kindFlag:
		return s.setFlag(l.index, flagBits[c.Key], value == "true")
	}
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return err
	}
	switch c.Kind {
	case kindGen:
		return s.setGenMode(l.index, uint8(n))
	case kindOwn:
		a, err := attrNamed(madeAttrs, c.Key)
		if err != nil {
			return err
		}
		return s.setOwn(l.index, a, n)
	case kindPort:
		a, err := attrNamed(portAttrs, c.Key)
		if err != nil {
			return err
		}
		return s.setPort(l.index, a, n)
	}
	return fmt.Errorf("unknown kind %q", c.Kind)
}

var errGone = errors.New("the interface is gone")

// undo takes changes back, the last first. What somebody has changed since is theirs
// and stays. It returns the changes that could not be taken back.
func (s *state) undo(changes []change) (left []change, err error) {
	for i := len(changes) - 1; i >= 0; i-- {
		c := &changes[i]
		all, readErr := s.read()
		if readErr != nil {
			return changes[:i+1], errors.Join(err, readErr)
		}
		if now, ok := s.now(all, c); !ok || now != c.Set {
			continue
		}
		if putErr := s.put(all, c, c.Was); putErr != nil && !errors.Is(putErr, errGone) && !errors.Is(putErr, unix.ENODEV) {
			err = errors.Join(err, putErr)
			left = append([]change{*c}, left...)
		}
	}
	return left, err
}
