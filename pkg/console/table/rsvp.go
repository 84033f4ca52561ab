package table

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/qosproxy/qosproxy/pkg/console"
)

// RSVPCounters prints the messages of each type and what was not taken.
func RSVPCounters(w io.Writer, s console.RSVPStats) error {
	t := newTable(w, "RSVP", "PATH", "RESV", "PATHERR", "RESVERR", "PATHTEAR", "RESVTEAR", "RESVCONF", "OTHER")
	for _, r := range []struct {
		name string
		m    console.RSVPMessages
	}{{"received", s.Received}, {"sent", s.Sent}} {
		m := r.m
		t.row(r.name, count(m.Path), count(m.Resv), count(m.PathErr), count(m.ResvErr), count(m.PathTear), count(m.ResvTear), count(m.ResvConf), count(m.Other))
	}
	if err := t.end(); err != nil {
		return err
	}
	e := s.Errors
	_, err := fmt.Fprintf(w, "\nRSVP errors  %d malformed, %d checksum, %d unknown, %d unexpected, %d over the rate, %d full, %d not sent, %d unreachable, %d timeouts\n",
		e.Malformed, e.Checksum, e.Unknown, e.Unexpected, e.Limited, e.Full, e.SendFailed, e.Unreachable, s.Timeouts)
	if err != nil || len(e.Refused) == 0 {
		return err
	}
	kinds := make([]string, 0, len(e.Refused))
	for kind, n := range e.Refused {
		kinds = append(kinds, fmt.Sprintf("%s %d", kind, n))
	}
	slices.Sort(kinds)
	_, err = fmt.Fprintf(w, "RSVP refused %s\n", strings.Join(kinds, ", "))
	return err
}
