package table

import (
	"cmp"
	"fmt"
	"io"
	"maps"
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
	if err != nil {
		return err
	}
	if d := s.Diagnostics; d != (console.DiagnosticStats{}) {
		if _, err := fmt.Fprintf(w, "RSVP traces  %d requests, %d forwarded, %d passed on, %d replies sent (%d in parts), %d relayed, %d without path, %d loops, %d routes cut\n",
			d.Requests, d.Forwarded, d.Passed, d.Answered, d.Fragments, d.Replies, d.NoPath, d.Loops, d.RoutesCut); err != nil {
			return err
		}
	}
	if err := refusedKinds(w, e.Refused); err != nil {
		return err
	}
	return integrity(w, s.Integrity)
}

func refusedKinds(w io.Writer, refused map[string]uint64) error {
	if len(refused) == 0 {
		return nil
	}
	kinds := make([]string, 0, len(refused))
	for kind, n := range refused {
		kinds = append(kinds, fmt.Sprintf("%s %d", kind, n))
	}
	slices.Sort(kinds)
	_, err := fmt.Fprintf(w, "RSVP refused %s\n", strings.Join(kinds, ", "))
	return err
}

func integrity(w io.Writer, i *console.IntegrityStats) error {
	if i == nil {
		return nil
	}
	var kinds []string
	for _, reason := range slices.SortedFunc(maps.Keys(i.Refused), func(a, b string) int {
		return cmp.Or(cmp.Compare(i.Refused[b], i.Refused[a]), cmp.Compare(a, b))
	}) {
		if n := i.Refused[reason]; n > 0 {
			kinds = append(kinds, fmt.Sprintf("%s %d", reason, n))
		}
	}
	refused := "none"
	if len(kinds) > 0 {
		refused = strings.Join(kinds, ", ")
	}
	_, err := fmt.Fprintf(w, "INTEGRITY    %d signed, %d accepted, %d handshakes (%d challenges, %d given up), %d under an ended key, refused: %s\n",
		i.Signed, i.Accepted, i.Handshakes, i.Challenges, i.GivenUp, i.StaleSigned+i.StaleAccepted, refused)
	return err
}
