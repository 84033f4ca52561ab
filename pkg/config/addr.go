package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ParsePrefix reads an address (one host) or a CIDR block, IPv4 or IPv6.
func ParsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("bad address %q: write for example 10.1.0.0/16, 10.1.2.3 or 2001:db8::/32", s)
		}
		if err := plainAddr(a); err != nil {
			return netip.Prefix{}, err
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("bad address block %q: write for example 10.1.0.0/16 or 2001:db8::/32", s)
	}
	if err := plainAddr(p.Addr()); err != nil {
		return netip.Prefix{}, err
	}
	if m := p.Masked(); m != p {
		return netip.Prefix{}, fmt.Errorf("address block %q has bits set beyond its length: write %s for the block, or %s for the host", s, m, p.Addr())
	}
	return p, nil
}

func plainAddr(a netip.Addr) error {
	if a.Is4In6() {
		return fmt.Errorf("%s is an IPv4 address in IPv6 form: write %s", a, a.Unmap())
	}
	if a.Zone() != "" {
		return fmt.Errorf("address %s names an interface: leave out %%%s", a, a.Zone())
	}
	return nil
}

// ParsePorts reads one port ("80") or an inclusive range ("5004-5020").
func ParsePorts(s string) ([2]uint16, error) {
	lo, hi, ranged := strings.Cut(s, "-")
	first, err := port(lo)
	if err != nil {
		return [2]uint16{}, fmt.Errorf("bad port %q: %w", s, err)
	}
	if !ranged {
		return [2]uint16{first, first}, nil
	}
	last, err := port(hi)
	if err != nil {
		return [2]uint16{}, fmt.Errorf("bad port range %q: %w", s, err)
	}
	if first > last {
		return [2]uint16{}, fmt.Errorf("port range %q runs backwards: write %d-%d", s, last, first)
	}
	return [2]uint16{first, last}, nil
}

func port(s string) (uint16, error) {
	v, err := decimal(s)
	if err != nil || v < 1 || v > 65535 {
		return 0, errors.New("ports are numbers from 1 to 65535; write 80, 5004-5020 or a list of these")
	}
	return uint16(v), nil
}

// decimal reads digits only: YAML's other number forms (0x50, 1_000, +5)
// are not in the contract.
func decimal(s string) (uint64, error) {
	if s == "" || len(s) > 1 && s[0] == '0' {
		return 0, strconv.ErrSyntax
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, strconv.ErrSyntax
		}
	}
	return strconv.ParseUint(s, 10, 64)
}
