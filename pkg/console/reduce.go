package console

import (
	"context"
	"net/http"
)

// ReductionRequest names a reservation that is in place, of any origin, and what
// shall be left of it (RFC 4495). What is zero is not said.
type ReductionRequest struct {
	Dst       string `json:"dst"`
	Protocol  Value  `json:"protocol,omitzero"` // tcp, udp or the number
	Dport     uint16 `json:"dport,omitempty"`
	Src       string `json:"src,omitempty"`
	Sport     uint16 `json:"sport,omitempty"`
	Interface string `json:"interface,omitempty"` // that the data leave by
	Rate      Value  `json:"rate"`                // "4mbit", or bytes/s
	Peak      Value  `json:"peak,omitzero"`       // as rate
}

// Reduction is what was done.
type Reduction struct {
	Dst       string      `json:"dst"`
	Protocol  string      `json:"protocol"`
	Dport     uint16      `json:"dport"`
	Senders   []TraceHost `json:"senders"` // several where they share the reservation
	Interface string      `json:"interface"`
	Service   string      `json:"service"`
	Before    *FlowSpec   `json:"before"`
	FlowSpec  *FlowSpec   `json:"flowspec"` // what is left
	LastsS    float64     `json:"lasts_s"`  // before it may be asked for in full again
}

func (s *Server) reduce(w http.ResponseWriter, r *http.Request) {
	var ask ReductionRequest
	if err := readBody(w, r, &ask); err != nil {
		s.refuse(w, err)
		return
	}
	done, err := s.backend.Reduce(r.Context(), ask)
	done.Senders = list(done.Senders)
	s.answer(w, http.StatusOK, done, err)
}

// Reduce has the daemon reduce a reservation in place.
func (c *Client) Reduce(ctx context.Context, r ReductionRequest) (Reduction, error) {
	return call[Reduction](ctx, c, http.MethodPost, "rsvp/reduce", r)
}
