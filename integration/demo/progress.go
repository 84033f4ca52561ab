package demo

import (
	"fmt"
	"io"
	"time"
)

// progress tells a person what happens, with the time since the start.
type progress struct {
	w     io.Writer
	start time.Time
}

func newProgress(w io.Writer) *progress { return &progress{w: w, start: time.Now()} }

func (p *progress) elapsed() time.Duration { return time.Since(p.start) }

func (p *progress) printf(format string, args ...any) {
	fmt.Fprintf(p.w, "%5.1f s  %s\n", p.elapsed().Seconds(), fmt.Sprintf(format, args...))
}
