package demo

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/integration/rig"
	"github.com/qosproxy/qosproxy/integration/rig/netns"
	"github.com/qosproxy/qosproxy/integration/rig/traffic"
)

// hostTTL is what the hosts' kernels send with.
const hostTTL = 64

// witness looks at all frames of A and B, and at the hosts' tables, for signs of a box.
type witness struct {
	hosts  map[[6]byte]string
	spaces map[*netns.NetNS]string
	boxes  []*netns.NetNS
	tables map[string]string // host and address to the Ethernet address that it had at the start

	captures []*traffic.Capture
	mu       sync.Mutex
	found    *unseen
}

// mostExamples bounds what is told of what was found.
const mostExamples = 5

// startWitness begins to look.
func (d *demonstration) startWitness(found *unseen) (*witness, error) {
	w := &witness{
		hosts: map[[6]byte]string{}, boxes: []*netns.NetNS{d.net.Box1, d.net.Box2}, found: found,
		spaces: map[*netns.NetNS]string{d.net.A: "A", d.net.B: "B", d.net.C: "C", d.net.D: "D"},
	}
	for ns, name := range w.spaces {
		mac, err := ns.HardwareAddr(rig.HostIface)
		if err != nil {
			return nil, err
		}
		w.hosts[[6]byte(mac)] = name
	}
	var err error
	if w.tables, err = w.read(); err != nil {
		return nil, err
	}
	for _, ns := range []*netns.NetNS{d.net.A, d.net.B} {
		c, err := traffic.StartCapture(ns, rig.HostIface, w.look)
		if err != nil {
			return nil, errors.Join(err, w.close())
		}
		w.captures = append(w.captures, c)
	}
	return w, nil
}

// look judges a frame, and keeps none.
func (w *witness) look(frame []byte) bool {
	const addresses, ethernet, ttl, protocol = 12, 14, 8, 9
	if len(frame) < ethernet {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.found.frames++
	if _, ok := w.hosts[[6]byte(frame[6:addresses])]; !ok {
		w.found.strangers++
		w.example("a frame from %x: %x", frame[6:addresses], frame[:min(len(frame), 64)])
	}
	if len(frame) < ethernet+20 || frame[12] != 0x08 || frame[13] != 0x00 {
		return false
	}
	switch frame[ethernet+protocol] {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMP:
		if frame[ethernet+ttl] != hostTTL {
			w.found.ttls++
			w.example("a packet with a TTL of %d: %x", frame[ethernet+ttl], frame[:min(len(frame), 64)])
		}
	}
	return false
}

func (w *witness) example(format string, args ...any) {
	if len(w.found.examples) < mostExamples {
		w.found.examples = append(w.found.examples, fmt.Sprintf(format, args...))
	}
}

// read reads the hosts' neighbour tables.
func (w *witness) read() (map[string]string, error) {
	tables := map[string]string{}
	for ns, name := range w.spaces {
		list, err := ns.Neighbours(rig.HostIface)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			if len(e.MAC) > 0 {
				tables[fmt.Sprintf("%s: %s", name, e.Addr)] = e.MAC.String()
			}
		}
	}
	return tables, nil
}

// judge looks at the tables and at the boxes while these are at work.
func (w *witness) judge() error {
	now, err := w.read()
	if err != nil {
		return err
	}
	macs := map[string]bool{}
	for mac := range w.hosts {
		macs[fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5])] = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for of, mac := range now {
		if was, known := w.tables[of]; !macs[mac] || known && was != mac {
			w.found.entries = append(w.found.entries, of+" is at "+mac)
		}
	}
	for of := range w.tables {
		if _, still := now[of]; !still {
			w.found.entries = append(w.found.entries, of+" is not known any more")
		}
	}
	slices.Sort(w.found.entries)
	for i, ns := range w.boxes {
		addrs, err := ns.Addresses()
		if err != nil {
			return err
		}
		for _, a := range addrs {
			w.found.addresses = append(w.found.addresses, fmt.Sprintf("box %d has %s", i+1, a))
		}
	}
	return nil
}

func (w *witness) close() error {
	var errs []error
	for _, c := range w.captures {
		errs = append(errs, c.Close())
		_, err := c.Frames() // none is kept, but those that nobody has looked at are told
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
