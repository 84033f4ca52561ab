package demo

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/qosproxy/qosproxy/integration/rig/emulator"
	"github.com/qosproxy/qosproxy/integration/rig/wire"
)

// taps record what enters the WAN: its RSVP messages always, every packet where
// the user wants to keep them.
type taps struct {
	rsvpFile  string
	rsvp, all *wire.Pcap
	files     []*os.File
}

// openTaps puts the files into keep, or, if that is "", into work.
func openTaps(work, keep string) (*taps, error) {
	dir := work
	if keep != "" {
		dir = keep
	}
	t := &taps{rsvpFile: filepath.Join(dir, "rsvp.pcap")}
	var err error
	if t.rsvp, err = t.open(t.rsvpFile); err == nil && keep != "" {
		t.all, err = t.open(filepath.Join(keep, "wan.pcap"))
	}
	if err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

func (t *taps) open(name string) (*wire.Pcap, error) {
	file, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	t.files = append(t.files, file)
	return wire.NewPcap(file)
}

// attach has a wire feed the taps.
func (t *taps) attach(cfg *wire.Config) {
	cfg.Taps.Enter = [2]*wire.Pcap{t.all, t.all}
	cfg.Script = func(_ wire.Direction, frame []byte) emulator.Verdict {
		if isRSVP(frame) {
			t.rsvp.Write(time.Now(), frame)
		}
		return emulator.Verdict{}
	}
}

// isRSVP recognises IP protocol 46 in an Ethernet frame.
func isRSVP(frame []byte) bool {
	const ethernet, protocol = 14, 9
	return len(frame) > ethernet+20 && frame[12] == 0x08 && frame[13] == 0x00 && frame[ethernet+protocol] == 46
}

// close writes out the files; it may be called again.
func (t *taps) close() error {
	var errs []error
	for _, p := range []*wire.Pcap{t.rsvp, t.all} {
		if p != nil {
			errs = append(errs, p.Close())
		}
	}
	for _, f := range t.files {
		errs = append(errs, f.Close())
	}
	t.files = nil
	return errors.Join(errs...)
}
