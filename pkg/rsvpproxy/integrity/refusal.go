package integrity

// Refusal is why a message is not let through. Its name is fit for a metric's
// label.
type Refusal uint8

// The refusals. None is an accepted message.
const (
	None        Refusal = iota
	Malformed           // no sound RSVP message
	Unsigned            // no INTEGRITY on a secured interface
	UnknownKey          // no key of that identifier for that sender
	KeyLifetime         // the key is not valid yet, or no longer
	BadDigest           // the digest is wrong
	Replayed            // the sequence number was seen, or is below the window
	Unproven            // waits for the handshake with its sender
	Unwilling           // the sender would not take part in the handshake
	Crowded             // too many associations
	Unsolicited         // Integrity Response that nobody waits for
	BadCookie           // Integrity Response to another challenge
	Handshake           // no refusal: Integrity Challenge or Response, consumed here
	NotAnswered         // Integrity Challenge beyond the rate, or for no key of ours
	refusals
)

var refusalNames = [...]string{
	None: "none", Malformed: "malformed", Unsigned: "unsigned", UnknownKey: "unknown-key",
	KeyLifetime: "key-lifetime", BadDigest: "digest", Replayed: "replayed", Unproven: "unproven",
	Unwilling: "unwilling", Crowded: "crowded", Unsolicited: "unsolicited", BadCookie: "cookie",
	Handshake: "handshake", NotAnswered: "challenge-not-answered",
}

// String returns the refusal's name.
func (r Refusal) String() string {
	if int(r) < len(refusalNames) {
		return refusalNames[r]
	}
	return "unknown"
}

// Counters count since the Link was made.
type Counters struct {
	Signed, Accepted      uint64 // messages
	Refused               [refusals]uint64
	Challenges, Responses uint64 // sent
	Handshakes, GivenUp   uint64 // completed; ended without a response
	// StaleSigned and StaleAccepted went through with an expired key for want of
	// a valid one: the operator has to be told (RFC 2747 section 5.3).
	StaleSigned, StaleAccepted uint64
	Forgotten                  uint64 // idle associations that made room
}

// Add adds the counters of another Link.
func (c *Counters) Add(o *Counters) {
	c.Signed += o.Signed
	c.Accepted += o.Accepted
	for i := range c.Refused {
		c.Refused[i] += o.Refused[i]
	}
	c.Challenges += o.Challenges
	c.Responses += o.Responses
	c.Handshakes += o.Handshakes
	c.GivenUp += o.GivenUp
	c.StaleSigned += o.StaleSigned
	c.StaleAccepted += o.StaleAccepted
	c.Forgotten += o.Forgotten
}

// ByReason returns how many messages were refused, by the refusal's name.
// Messages of the handshake that were taken are none of them.
func (c Counters) ByReason() map[string]uint64 {
	m := make(map[string]uint64, refusals)
	for r := Malformed; r < refusals; r++ {
		if r != Handshake {
			m[r.String()] = c.Refused[r]
		}
	}
	return m
}
