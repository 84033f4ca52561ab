package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// maxBody bounds what a client may send.
const maxBody = 16 << 10

// reservations lists what was reserved by hand.
func (s *Server) reservations(w http.ResponseWriter, _ *http.Request) {
	rows, err := s.backend.Reservations()
	if err != nil {
		s.refuse(w, err)
		return
	}
	for i := range rows {
		rows[i].Branches = list(rows[i].Branches)
	}
	s.writeJSON(w, http.StatusOK, list(rows))
}

func (s *Server) reservation(w http.ResponseWriter, r *http.Request) {
	row, err := s.backend.Reservation(r.PathValue("id"))
	row.Branches = list(row.Branches)
	s.answer(w, http.StatusOK, row, err)
}

func (s *Server) reserve(w http.ResponseWriter, r *http.Request) {
	var ask ReservationRequest
	if err := readBody(w, r, &ask); err != nil {
		s.refuse(w, err)
		return
	}
	row, err := s.backend.Reserve(r.Context(), ask)
	row.Branches = list(row.Branches)
	s.answer(w, http.StatusCreated, row, err)
}

func (s *Server) releaseReservation(w http.ResponseWriter, r *http.Request) {
	discardBody(r)
	row, err := s.backend.Release(r.Context(), r.PathValue("id"))
	row.Branches = list(row.Branches)
	s.answer(w, http.StatusOK, row, err)
}

func (s *Server) answer(w http.ResponseWriter, status int, v any, err error) {
	if err != nil {
		s.refuse(w, err)
		return
	}
	s.writeJSON(w, status, v)
}

// refuse answers with an error, which says its HTTP status itself if it is one
// of ours.
func (s *Server) refuse(w http.ResponseWriter, err error) {
	if e, ok := errors.AsType[*Error](err); ok && e.Status != 0 {
		s.fail(w, e.Status, e.Code, e.Message, e.Details)
		return
	}
	s.onError(fmt.Errorf("control socket: %w", err))
	s.fail(w, http.StatusInternalServerError, "internal", err.Error(), nil)
}

// readBody reads one JSON object and nothing beside it; a key that is not known
// is a mistake and not ignored.
func readBody(w http.ResponseWriter, r *http.Request, v any) error {
	bad := func(status int, code, format string, args ...any) error {
		return &Error{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, err = dec.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = errors.New("more follows the object")
		}
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return bad(http.StatusRequestEntityTooLarge, "too_large", "the request has more than %d bytes", tooLarge.Limit)
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("it is empty")
	}
	return bad(http.StatusBadRequest, "bad_request", "the request is not the JSON object that docs/api.md describes: %v", err)
}
