package integrity

import "time"

// clockSequence is a sequence number from the clock: an NTP timestamp, which
// grows over restarts without stable storage (RFC 2747 section 3.2).
func clockSequence(now time.Time) uint64 {
	const ntpUnix = 2208988800 // seconds from 1900 to 1970
	return uint64(now.Unix()+ntpUnix)<<32 | uint64(now.Nanosecond())<<32/1e9
}

// next returns a sequence number greater than all that were sent with the key,
// modulo 2^64, also if the clock stands still or is set back.
func (k *key) next(now time.Time) uint64 {
	seq := clockSequence(now)
	if k.sent && !after(seq, k.last) {
		seq = k.last + 1
	}
	k.last, k.sent = seq, true
	return seq
}

// LastSequences returns the latest sequence number sent with each sending key.
// To keep them over a restart is needed only where the clock may be set back
// while the program is down.
func (l *Link) LastSequences() map[uint64]uint64 {
	last := map[uint64]uint64{}
	for _, k := range l.keys {
		if k.sent {
			last[k.ID] = k.last
		}
	}
	return last
}

// RestoreSequences takes back what LastSequences of an earlier run returned:
// nothing up to there is sent again (RFC 2747 section 3.1).
func (l *Link) RestoreSequences(last map[uint64]uint64) {
	for _, k := range l.keys {
		if seq, ok := last[k.ID]; ok && (!k.sent || after(seq, k.last)) {
			k.last, k.sent = seq, true
		}
	}
}
