package console

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

type handler func(w http.ResponseWriter, r *http.Request)

// Handler returns the API as an http.Handler.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	get := func(path string, h handler) { s.route(mux, path, map[string]handler{http.MethodGet: h}) }
	get("/v1/status", func(w http.ResponseWriter, _ *http.Request) { s.writeJSON(w, http.StatusOK, s.status()) })
	get("/v1/flows", func(w http.ResponseWriter, _ *http.Request) { s.writeJSON(w, http.StatusOK, list(s.backend.Flows())) })
	get("/v1/sessions", func(w http.ResponseWriter, _ *http.Request) {
		s.writeJSON(w, http.StatusOK, s.sessions())
	})
	get("/v1/links", func(w http.ResponseWriter, _ *http.Request) { s.writeJSON(w, http.StatusOK, s.links()) })
	get("/v1/policies", func(w http.ResponseWriter, _ *http.Request) { s.writeJSON(w, http.StatusOK, s.policies()) })
	get("/v1/users", func(w http.ResponseWriter, _ *http.Request) { s.writeJSON(w, http.StatusOK, s.users()) })
	get("/v1/stats", func(w http.ResponseWriter, _ *http.Request) { s.writeJSON(w, http.StatusOK, s.stats()) })
	get("/v1/rsvp/counters", func(w http.ResponseWriter, _ *http.Request) { s.writeJSON(w, http.StatusOK, s.stats().RSVP) })
	get("/v1/rsvp/trace", s.trace)
	get("/v1/rsvp/neighbors", rows(s, s.backend.RSVPNeighbors, nil))
	get("/v1/rsvp/senders", rows(s, s.backend.RSVPSenders, func(r *RSVPSenderRow) { r.Interfaces = list(r.Interfaces) }))
	get("/v1/rsvp/reservations", rows(s, s.backend.RSVPReservations, func(r *RSVPReservationRow) { r.Filters = list(r.Filters) }))
	get("/v1/rsvp/interfaces", rows(s, s.backend.RSVPInterfaces, nil))
	get("/v1/accounting/users", func(w http.ResponseWriter, _ *http.Request) {
		s.writeJSON(w, http.StatusOK, list(s.backend.AccountingUsers()))
	})
	get("/v1/events", s.events)
	get("/healthz", s.healthz)
	s.route(mux, "/v1/accounting", map[string]handler{http.MethodGet: s.accounting, http.MethodDelete: s.accountingRead})
	s.route(mux, "/v1/reload", map[string]handler{http.MethodPost: s.reload})
	s.route(mux, "/v1/rsvp/reduce", map[string]handler{http.MethodPost: s.reduce})
	s.route(mux, "/v1/reservations", map[string]handler{http.MethodGet: s.reservations, http.MethodPost: s.reserve})
	s.route(mux, "/v1/reservations/{id}", map[string]handler{http.MethodGet: s.reservation, http.MethodDelete: s.releaseReservation})
	if s.metrics != nil {
		get("/metrics", s.metrics.ServeHTTP)
	}
	// In the contract, built later.
	for path, method := range map[string]string{
		"/v1/connections": http.MethodGet, "/{$}": http.MethodGet,
	} {
		s.route(mux, path, map[string]handler{method: s.later})
	}
	mux.HandleFunc("/", s.guard(func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, http.StatusNotFound, "not_found", fmt.Sprintf("there is no %s here, docs/api.md lists what there is", r.URL.Path), nil)
	}))
	return mux
}

func (s *Server) route(mux *http.ServeMux, path string, methods map[string]handler) {
	allowed := make([]string, 0, len(methods))
	for m := range methods {
		allowed = append(allowed, m)
	}
	slices.Sort(allowed)
	mux.HandleFunc(path, s.guard(func(w http.ResponseWriter, r *http.Request) {
		h, ok := methods[r.Method]
		if !ok {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			s.fail(w, http.StatusMethodNotAllowed, "method_not_allowed",
				fmt.Sprintf("%s takes %s, not %s", r.URL.Path, strings.Join(allowed, " or "), r.Method), nil)
			return
		}
		h(w, r)
	}))
}

// guard turns a panic into an error answer: a bad row must not end the daemon.
func (s *Server) guard(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				s.onError(fmt.Errorf("control socket: %s %s: panic: %v", r.Method, r.URL.Path, p))
				s.fail(w, http.StatusInternalServerError, "internal", "the daemon could not answer, its log says why", nil)
			}
		}()
		h(w, r)
	}
}

func (s *Server) fail(w http.ResponseWriter, status int, code, message string, details []string) {
	s.writeJSON(w, status, ErrorBody{Error: &Error{Code: code, Message: message, Details: details}})
}

func (s *Server) later(w http.ResponseWriter, r *http.Request) {
	s.fail(w, http.StatusNotImplemented, "not_implemented", r.URL.Path+" is not in this version", nil)
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	if err := s.backend.Healthy(); err != nil {
		s.fail(w, http.StatusServiceUnavailable, "unhealthy", err.Error(), nil)
		return
	}
	s.writeJSON(w, http.StatusOK, Health{Healthy: true})
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	discardBody(r)
	err := s.backend.Reload(r.Context())
	if err == nil {
		s.writeJSON(w, http.StatusOK, s.status())
		return
	}
	var details []string
	var many interface{ Unwrap() []error }
	if errors.As(err, &many) {
		for _, e := range many.Unwrap() {
			details = append(details, e.Error())
		}
	}
	s.fail(w, http.StatusUnprocessableEntity, "reload_failed", "the new config was not taken, the old one is still in use: "+err.Error(), details)
}

// The functions below see to it that a list is an array and never null, so
// that a program can always iterate.

func list[T any](rows []T) []T {
	if rows == nil {
		return []T{}
	}
	return rows
}

// rows answers with a list, whose rows' own lists tidy sees to.
func rows[T any](s *Server, ask func() ([]T, error), tidy func(*T)) handler {
	return func(w http.ResponseWriter, _ *http.Request) {
		out, err := ask()
		for i := range out {
			if tidy != nil {
				tidy(&out[i])
			}
		}
		s.answer(w, http.StatusOK, list(out), err)
	}
}

func (s *Server) status() Status {
	st := s.backend.Status()
	st.Problems = list(st.Problems)
	return st
}

func (s *Server) sessions() []SessionRow {
	rows := list(s.backend.Sessions())
	for i := range rows {
		rows[i].Identities, rows[i].DClass = list(rows[i].Identities), list(rows[i].DClass)
	}
	return rows
}

func (s *Server) links() []LinkRow {
	rows := list(s.backend.Links())
	for i := range rows {
		r := &rows[i]
		r.Classes, r.Services, r.Levels = list(r.Classes), list(r.Services), list(r.Levels)
		r.Shared, r.DSCPs = list(r.Shared), list(r.DSCPs)
		for n := range r.Shared {
			r.Shared[n].Boxes = list(r.Shared[n].Boxes)
		}
		for n := range r.Levels {
			r.Levels[n].Times = list(r.Levels[n].Times)
		}
	}
	return rows
}

func (s *Server) policies() []PolicyRow {
	rows := list(s.backend.Policies())
	for i := range rows {
		p := &rows[i]
		p.From, p.To, p.FromPort, p.ToPort = list(p.From), list(p.To), list(p.FromPort), list(p.ToPort)
	}
	return rows
}

func (s *Server) users() []UserRow {
	rows := list(s.backend.Users())
	for i := range rows {
		rows[i].Identities, rows[i].From = list(rows[i].Identities), list(rows[i].From)
	}
	return rows
}

func (s *Server) stats() Stats {
	st := s.backend.Stats()
	st.Queues = list(st.Queues)
	if st.Cheat.LeftAlone == nil {
		st.Cheat.LeftAlone = map[string]uint64{}
	}
	return st
}
