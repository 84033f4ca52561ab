package plan

import (
	"math"
	"time"
)

// Promise is how far the service that a reserved class gets on an interface can
// fall behind the fluid model of guaranteed service (RFC 2212, Exported
// Information). The derivation is in docs/qos.md; in short:
//
// HTB serves a class at once while its bucket is not empty, the bucket holds a
// frame and burstTime more than the class's rate needs, and what is borrowed does
// not empty it. So a class of rate R is never behind a fluid server of rate R by
// anything that depends on R, and a late timer is made up for by the bucket: C is
// nothing, and its least value is told. What a packet can still find before it
// in the link behind the box, which is first in, first out and as fast as the
// root class, is D.
type Promise struct {
	C uint32        // bytes
	D time.Duration // whole microseconds
	// Bursts is what reserved flows may send at once in all, in bytes, for D to
	// hold. Admission sees to it while guaranteed flows are on the interface.
	Bursts float64
	// Lead is what a class may send at once by itself: a frame and one more that
	// the bucket lets go when it is nearly empty, and LeadTime at its rate.
	Lead     float64
	LeadTime time.Duration
}

// leastTerm is the smallest C and D that may be told (RFC 2212).
const leastTerm = 1

// LeastPromise is that of an interface where nothing waits.
var LeastPromise = Promise{C: leastTerm, D: leastTerm * time.Microsecond}

// PromiseOf returns what an interface can promise; false if it is not shaped.
func PromiseOf(itf Interface, f Facts) (Promise, bool) {
	if itf.Capacity == 0 {
		return Promise{}, false
	}
	capacity := float64(itf.Capacity)
	unit := f.frame() // what is sent in one piece
	if l := f.leaf(itf, 0); l.Kind == "tbf" {
		unit = max(unit, float64(l.Burst))
	} else {
		unit = max(unit, superPacket)
	}
	p := Promise{
		C:        leastTerm,
		Bursts:   capacity*burstsTime + unit,
		Lead:     f.frame() + unit,
		LeadTime: time.Duration(burstTime * float64(time.Second)),
	}
	// Best effort and borrowers: the bucket of the root, that of the best-effort
	// class and that of the control class, each with a frame, and a piece more
	// than each holds; and the packet itself. The others are in Bursts.
	ahead := capacity*(rootBurstTime+(itf.BestEffortShare()+controlShare)*burstTime) + 3*(f.frame()+unit) + f.frame() + p.Bursts
	// Provisioned traffic: the buckets of its classes.
	for _, c := range LevelClasses(itf, f, nil) {
		ahead += float64(c.Rate)*burstTime + f.frame() + unit
	}
	micros := math.Ceil(ahead / capacity * 1e6)
	p.D = time.Duration(max(micros, leastTerm)) * time.Microsecond
	return p, true
}
