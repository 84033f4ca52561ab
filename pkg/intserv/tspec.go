package intserv

import (
	"errors"
	"fmt"
	"math"
)

// TSpec is the TOKEN_BUCKET_TSPEC of RFC 2215 section 3.6. It is comparable.
//
// Real senders leave MinUnit and MaxPacket zero although RFC 2210 section 3.1
// forbids it. Zero is therefore read as "not stated": a MinUnit of zero counts
// every packet with its own length, a MaxPacket of zero is no limit and orders
// as the largest of all.
type TSpec struct {
	Rate      float64 // r, bytes/s
	Bucket    float64 // b, bytes
	Peak      float64 // p, bytes/s; may be +Inf: not known
	MinUnit   uint32  // m, bytes: smaller packets count as this
	MaxPacket uint32  // M, bytes: larger packets never conform
}

// The ranges of RFC 2215 section 3.6, with the 0.1 % that its floats may be off.
// The lower end is RFC 2212's prohibition of exponents below 127.
const (
	minFloat  = 1
	maxRate   = 40e12 * 1.001
	maxBucket = 250e9 * 1.001
)

// Reasons why a value is refused, for errors.Is.
var (
	ErrNotANumber = errors.New("not a number")
	ErrNegative   = errors.New("negative")
	ErrInfinite   = errors.New("infinite")
	ErrRange      = errors.New("out of range")
	ErrUnits      = errors.New("minimum policed unit above maximum packet size")
)

// Validate refuses what a network element must not compute with (RFC 2211
// section 5, RFC 2212, RFC 2215 section 3.6): NaN, negative numbers and
// negative zero, infinities but for p, values outside the ranges, m above M.
// It lets pass what real senders do: m and M of zero.
func (t TSpec) Validate() error {
	return errors.Join(
		checkFloat("token rate r", t.Rate, maxRate),
		checkFloat("bucket depth b", t.Bucket, maxBucket),
		checkPeak(t.Peak),
		checkUnits(t.MinUnit, t.MaxPacket),
	)
}

// Null says whether t is the TSpec of the null service, which tells nothing but M
// (RFC 2997 section 4.3). [TSpec.Validate] refuses it.
func (t TSpec) Null() bool { return t.MaxPacket != 0 && t == TSpec{MaxPacket: t.MaxPacket} }

// ValidateStrict refuses in addition what RFC 2210 section 3.1 calls illegal
// (m or M of zero) and what it calls senseless (a peak rate below the token rate).
func (t TSpec) ValidateStrict() error {
	err := t.Validate()
	if t.MinUnit == 0 {
		err = errors.Join(err, fmt.Errorf("minimum policed unit m: zero: %w", ErrRange))
	}
	if t.MaxPacket == 0 {
		err = errors.Join(err, fmt.Errorf("maximum packet size M: zero: %w", ErrRange))
	}
	if t.Peak < t.Rate {
		err = errors.Join(err, fmt.Errorf("peak rate p %g below token rate r %g: %w", t.Peak, t.Rate, ErrRange))
	}
	return err
}

// Wire returns t as the peer will read it: the wire carries single-precision
// floats (RFC 2211 section 5). Compare a local TSpec with a received one only
// after this.
func (t TSpec) Wire() TSpec {
	t.Rate = float64(float32(t.Rate))
	t.Bucket = float64(float32(t.Bucket))
	t.Peak = float64(float32(t.Peak))
	return t
}

// AssumedMinUnit stands in for an m that was not stated, in bytes, where a
// packet count has to be estimated: RFC 2210 section 3.1 notes that taking zero
// at its word would mean an infinite link-layer overhead.
const AssumedMinUnit = 64

// LinkRate returns the bandwidth in bytes/s that a link must set aside for
// bytesPerSecond of t's packets when it adds overhead bytes to each: the worst
// case is that all have the minimum size (RFC 2210 section 3.1, use of m).
func (t TSpec) LinkRate(bytesPerSecond float64, overhead uint32) float64 {
	m := t.MinUnit
	if m == 0 {
		m = AssumedMinUnit
	}
	return bytesPerSecond * (1 + float64(overhead)/float64(m))
}

// packet returns the M that bucket arithmetic may use: never above b, since no
// packet larger than the bucket can conform, and b where M is not stated.
func (t TSpec) packet() float64 {
	if t.MaxPacket == 0 {
		return t.Bucket
	}
	return min(float64(t.MaxPacket), t.Bucket)
}

// String is for people: short, in the RFCs' letters.
func (t TSpec) String() string {
	return fmt.Sprintf("r=%g b=%g p=%g m=%d M=%d", t.Rate, t.Bucket, t.Peak, t.MinUnit, t.MaxPacket)
}

func checkFloat(name string, v, limit float64) error {
	switch {
	case math.IsNaN(v):
		return fmt.Errorf("%s: %w", name, ErrNotANumber)
	case math.Signbit(v): // negative zero too: RFC 2215 section 3.6
		return fmt.Errorf("%s: %g: %w", name, v, ErrNegative)
	case math.IsInf(v, 1):
		return fmt.Errorf("%s: %w", name, ErrInfinite)
	case v < minFloat || v > limit:
		return fmt.Errorf("%s: %g not in %g to %g: %w", name, v, float64(minFloat), limit, ErrRange)
	}
	return nil
}

func checkPeak(p float64) error {
	if math.IsInf(p, 1) {
		return nil
	}
	return checkFloat("peak rate p", p, maxRate)
}

func checkUnits(minUnit, maxPacket uint32) error {
	if maxPacket != 0 && minUnit > maxPacket {
		return fmt.Errorf("m %d, M %d: %w", minUnit, maxPacket, ErrUnits)
	}
	return nil
}
