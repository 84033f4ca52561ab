package demo

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// rsvpCheck is what an implementation that is not ours says of the WAN's RSVP
// messages.
type rsvpCheck struct {
	skipped  string // why nothing was checked, "" if it was
	messages int
	faulty   []string // one line for each message that it finds fault with
}

// tsharkPatience bounds the reading of a file with a few hundred messages.
const tsharkPatience = 30 * time.Second

// checkRSVP has tshark decode a file, if it is installed. It does not depend
// on the demonstration's context: the file is complete.
func checkRSVP(file string) (rsvpCheck, error) {
	tshark, err := exec.LookPath("tshark")
	if errors.Is(err, exec.ErrNotFound) {
		return rsvpCheck{skipped: "tshark is not installed"}, nil
	}
	if err != nil {
		return rsvpCheck{}, fmt.Errorf("tshark: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), tsharkPatience)
	defer cancel()
	out, err := exec.CommandContext(ctx, tshark, "-n", "-r", file, "-V", "-o", "ip.check_checksum:TRUE").Output()
	if err != nil {
		return rsvpCheck{}, fmt.Errorf("tshark: %w", err)
	}
	return readTshark(string(out)), nil
}

// readTshark judges the text of `tshark -V`: one paragraph for each packet,
// starting with "Frame N:".
func readTshark(text string) rsvpCheck {
	var c rsvpCheck
	for _, packet := range strings.Split("\n"+text, "\nFrame ")[1:] {
		c.messages++
		head, _, _ := strings.Cut(packet, ":")
		switch {
		case strings.Contains(packet, "Malformed"):
			c.faulty = append(c.faulty, "frame "+head+" is malformed")
		case strings.Contains(packet, "ncorrect"):
			c.faulty = append(c.faulty, "frame "+head+" has a wrong checksum")
		case !strings.Contains(packet, "Message Checksum: ") || !strings.Contains(packet, "[correct]"):
			c.faulty = append(c.faulty, "frame "+head+" has no checksum that tshark calls correct")
		}
	}
	return c
}
