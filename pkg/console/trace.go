package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// TraceQuery names the RSVP session whose way is to be traced. What is zero is
// not said.
type TraceQuery struct {
	Dst, Src     netip.Addr
	Protocol     uint8
	Dport, Sport uint16
	LastHop      netip.Addr // where to begin
	MaxHops      uint8
	HopByHop     bool
	Timeout      time.Duration // of one attempt
	Attempts     int
}

// Bounds of a TraceQuery: a trace must be over before its client gives up.
const (
	maxTraceTimeout  = 5 * time.Second
	maxTraceAttempts = 10
)

// Outcomes of a Trace.
const (
	TraceSender  = "sender"   // complete: the last hop is the sender's own or speaks for it
	TraceMaxHops = "max-hops" // complete, as far as was asked for
	TraceNoPath  = "no-path"
	TraceLoop    = "loop"
	TraceSilent  = "silent"
	TracePartial = "partial"
	TraceNone    = "no-answer"
)

// Trace is what the boxes on a session's way tell of it (RFC 2745), from the
// receiver's side to the sender's.
type Trace struct {
	Dst       string     `json:"dst"`
	Protocol  string     `json:"protocol"`
	Dport     uint16     `json:"dport"`
	Src       string     `json:"src"`
	Sport     uint16     `json:"sport"`
	LastHop   string     `json:"last_hop"`
	Requester string     `json:"requester"` // address and UDP port that were answered to
	Outcome   string     `json:"outcome"`
	Complete  bool       `json:"complete"`
	Message   string     `json:"message"`  // why it is not complete; "" if it is
	Attempts  int        `json:"attempts"` // requests that were sent
	Reply     string     `json:"reply"`    // direct, hop-by-hop
	TookUS    uint64     `json:"took_us"`
	Hops      []TraceHop `json:"hops"`
}

// TraceHop is what one box tells.
type TraceHop struct {
	Hop      int         `json:"hop"`      // from 1
	In       string      `json:"in"`       // address of the interface towards the sender, "" not known
	Out      string      `json:"out"`      // of the one towards the receiver
	PrevHop  string      `json:"prev_hop"` // "" if the sender is behind this box
	DTTL     uint8       `json:"d_ttl"`    // routers without RSVP since the last hop
	Arrival  string      `json:"arrival"`  // of the request, by that box's clock
	OffsetUS int64       `json:"offset_us"`
	Merged   bool        `json:"merged"`
	Errors   []string    `json:"errors"`    // no-path, packet-too-big, route-too-big
	K        uint8       `json:"k"`         // refresh multiple
	RefreshS uint16      `json:"refresh_s"` // R
	Style    string      `json:"style"`     // "" nothing is reserved
	Service  string      `json:"service"`
	TSpec    *TSpec      `json:"tspec"`
	FlowSpec *FlowSpec   `json:"flowspec"`
	Filters  []TraceHost `json:"filters"`
}

// TraceHost is a sender in a filter spec.
type TraceHost struct {
	Src   string `json:"src"`
	Sport uint16 `json:"sport"`
}

// Values is the query as the API takes it.
func (q TraceQuery) Values() url.Values {
	v := url.Values{}
	addr := func(key string, a netip.Addr) {
		if a.IsValid() {
			v.Set(key, a.String())
		}
	}
	number := func(key string, n int) {
		if n != 0 {
			v.Set(key, strconv.Itoa(n))
		}
	}
	addr("dst", q.Dst)
	addr("src", q.Src)
	addr("last_hop", q.LastHop)
	number("protocol", int(q.Protocol))
	number("dport", int(q.Dport))
	number("sport", int(q.Sport))
	number("max_hops", int(q.MaxHops))
	number("attempts", q.Attempts)
	if q.HopByHop {
		v.Set("hop_by_hop", "true")
	}
	if q.Timeout != 0 {
		v.Set("timeout", q.Timeout.String())
	}
	return v
}

// ParseTraceQuery reads what Values writes. Its error says what to write
// instead.
func ParseTraceQuery(v url.Values) (q TraceQuery, err error) {
	set := map[string]func(string) error{
		"dst": parseAddr(&q.Dst), "src": parseAddr(&q.Src), "last_hop": parseAddr(&q.LastHop),
		"protocol": func(s string) (err error) { q.Protocol, err = ParseProtocol(s); return err },
		"dport":    parseNumber(&q.Dport, 1, 65535), "sport": parseNumber(&q.Sport, 1, 65535),
		"max_hops": parseNumber(&q.MaxHops, 1, 255), "attempts": parseNumber(&q.Attempts, 1, maxTraceAttempts),
		"hop_by_hop": func(s string) (err error) {
			if q.HopByHop, err = strconv.ParseBool(s); err != nil {
				err = errors.New("write true or false")
			}
			return err
		},
		"timeout": func(s string) (err error) {
			if q.Timeout, err = time.ParseDuration(s); err != nil || q.Timeout <= 0 || q.Timeout > maxTraceTimeout {
				err = fmt.Errorf("write a time up to %v, such as 500ms", maxTraceTimeout)
			}
			return err
		},
	}
	keys := make([]string, 0, len(v))
	for key := range v {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		f, ok := set[key]
		switch {
		case !ok:
			return q, fmt.Errorf("there is no parameter %q, docs/api.md lists them", key)
		case len(v[key]) != 1:
			return q, fmt.Errorf("%s is given twice", key)
		}
		if err := f(v[key][0]); err != nil {
			return q, fmt.Errorf("%s %q: %w", key, v[key][0], err)
		}
	}
	switch {
	case !q.Dst.IsValid():
		return q, errors.New("name the session's destination with dst=ADDRESS")
	case q.Src.IsValid() && q.Src.Is4() != q.Dst.Is4(), q.LastHop.IsValid() && q.LastHop.Is4() != q.Dst.Is4():
		return q, errors.New("all addresses have to be of one family, IPv4 or IPv6")
	case q.Src.IsMulticast() || q.LastHop.IsMulticast():
		return q, errors.New("src and last_hop are addresses of hosts, not groups")
	}
	return q, nil
}

// ParseProtocol reads tcp, udp or a number.
func ParseProtocol(s string) (uint8, error) {
	switch strings.ToLower(s) {
	case "tcp":
		return 6, nil
	case "udp":
		return 17, nil
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil || n == 0 {
		return 0, errors.New("write tcp, udp or a number from 1 to 255")
	}
	return uint8(n), nil
}

func parseAddr(to *netip.Addr) func(string) error {
	return func(s string) error {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" || a.IsUnspecified() {
			return errors.New("write one IPv4 or IPv6 address")
		}
		*to = a.Unmap()
		return nil
	}
}

func parseNumber[T int | uint8 | uint16](to *T, least, most int) func(string) error {
	return func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < least || n > most {
			return fmt.Errorf("write a number from %d to %d", least, most)
		}
		*to = T(n)
		return nil
	}
}

func (s *Server) trace(w http.ResponseWriter, r *http.Request) {
	q, err := ParseTraceQuery(r.URL.Query())
	if err != nil {
		s.fail(w, http.StatusBadRequest, "bad_request", err.Error(), nil)
		return
	}
	t, err := s.backend.Trace(r.Context(), q)
	if e, ok := errors.AsType[*Error](err); ok {
		s.fail(w, e.Status, e.Code, e.Message, e.Details)
		return
	}
	if err != nil {
		s.fail(w, http.StatusInternalServerError, "internal", err.Error(), nil)
		return
	}
	t.Hops = list(t.Hops)
	for i := range t.Hops {
		t.Hops[i].Errors, t.Hops[i].Filters = list(t.Hops[i].Errors), list(t.Hops[i].Filters)
	}
	s.writeJSON(w, http.StatusOK, t)
}

// Trace has the daemon trace a session's way.
func (c *Client) Trace(ctx context.Context, q TraceQuery) (Trace, error) {
	return get[Trace](ctx, c, "rsvp/trace?"+q.Values().Encode())
}
