package route

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/packet"
)

// seen is what a bridge has learned.
type seen map[packet.FlowKey]packet.Frame

func (s seen) Frame(k *packet.FlowKey, f *packet.Frame) (ok bool) {
	*f, ok = s[*k]
	return ok
}

func (s seen) learn(src, dst string, port int) {
	s[pairOf(src, dst)] = packet.Frame{Port: port}
}

func pairOf(src, dst string) packet.FlowKey {
	return packet.FlowKey{Src: netip.MustParseAddr(src).As16(), Dst: netip.MustParseAddr(dst).As16()}
}

func TestBridgeOnward(t *testing.T) {
	s := seen{}
	b := Bridge{Frames: s}
	s.learn("10.0.0.2", "10.0.0.1", 7) // answers of 2 to 1
	s.learn("10.0.0.1", "10.0.0.2", 5)
	s.learn("10.0.0.1", "10.0.0.3", 5) // never answered
	s.learn("2001:db8::2", "2001:db8::1", 9)
	s.learn("10.0.0.4", "10.0.0.1", 5) // on the same side
	for _, tt := range []struct {
		name     string
		src, dst string
		in       int
		ports    []int
		want     int
		ok       bool
	}{
		{"heard", "10.0.0.1", "10.0.0.2", 5, []int{5, 7}, 7, true},
		{"heard, of three", "10.0.0.1", "10.0.0.2", 5, []int{5, 6, 7}, 7, true},
		{"heard, in is not known", "10.0.0.1", "10.0.0.2", 0, []int{5, 6, 7}, 7, true},
		{"IPv6", "2001:db8::1", "2001:db8::2", 5, []int{5, 9}, 9, true},
		{"never heard: the other one", "10.0.0.1", "10.0.0.3", 5, []int{5, 7}, 7, true},
		{"never heard, of three", "10.0.0.1", "10.0.0.3", 5, []int{5, 6, 7}, 0, false},
		{"never heard, by where it comes in", "10.0.0.1", "10.0.0.3", 0, []int{5, 7}, 7, true},
		{"nothing is known", "10.0.0.8", "10.0.0.9", 0, []int{5, 7}, 0, false},
		{"in is none of the ports", "10.0.0.8", "10.0.0.9", 4, []int{5, 7}, 0, false},
		{"both on one side", "10.0.0.1", "10.0.0.4", 5, []int{5, 7}, 5, false},
		{"heard by a port that is gone", "10.0.0.1", "10.0.0.2", 5, []int{5, 8}, 8, true},
	} {
		out, ok := b.Onward(netip.MustParseAddr(tt.dst), netip.MustParseAddr(tt.src), tt.in, tt.ports)
		if ok != tt.ok || ok && out != tt.want {
			t.Errorf("%s: %d %v, want %d %v", tt.name, out, ok, tt.want, tt.ok)
		}
	}
	if _, ok := b.Onward(netip.Addr{}, netip.MustParseAddr("10.0.0.1"), 5, []int{5, 7}); ok {
		t.Error("the way to nowhere")
	}
}

// Of more than two ports the one leads to a host that was never heard behind which
// the bridge has its station.
func TestBridgeOnwardByStation(t *testing.T) {
	src, dst := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.3")
	mac := [6]byte{2, 5: 3}
	for _, tt := range []struct {
		name  string
		seen  seen
		in    int
		ports []int
		port  int
		err   error
		want  int
		guest bool
	}{
		{"heard by ARP", seen{pairOf("10.0.0.1", "10.0.0.3"): {Port: 5, Dst: mac}}, 5, []int{5, 6, 7}, 6, nil, 6, false},
		{"in is not known", seen{pairOf("10.0.0.1", "10.0.0.3"): {Port: 5, Dst: mac}}, 0, []int{5, 6, 7}, 6, nil, 6, false},
		{"not heard", seen{pairOf("10.0.0.1", "10.0.0.3"): {Port: 5, Dst: mac}}, 5, []int{5, 6, 7}, 0, nil, 0, false},
		{"on the same side", seen{pairOf("10.0.0.1", "10.0.0.3"): {Port: 5, Dst: mac}}, 5, []int{5, 6, 7}, 5, nil, 0, false},
		{"behind another port", seen{pairOf("10.0.0.1", "10.0.0.3"): {Port: 5, Dst: mac}}, 5, []int{5, 6, 7}, 8, nil, 0, false},
		{"nobody answers", seen{pairOf("10.0.0.1", "10.0.0.3"): {Port: 5, Dst: mac}}, 5, []int{5, 6, 7}, 6, errors.New("no"), 0, false},
		{"nothing was sent there", seen{}, 5, []int{5, 6, 7}, 6, nil, 0, false},
		{"in is none of the ports", seen{pairOf("10.0.0.1", "10.0.0.3"): {Port: 5, Dst: mac}}, 4, []int{5, 6, 7}, 6, nil, 0, false},
		{"two ports need not ask", seen{pairOf("10.0.0.1", "10.0.0.3"): {Port: 5, Dst: mac}}, 5, []int{5, 6}, 0, nil, 6, false},
		{"two ports, and one more", seen{pairOf("10.0.0.1", "10.0.0.3"): {Port: 5, Dst: mac}}, 5, []int{5, 6}, 6, nil, 6, true},
		{"behind the one that is not listed", seen{pairOf("10.0.0.1", "10.0.0.3"): {Port: 5, Dst: mac}}, 5, []int{5, 6}, 9, nil, 0, true},
		{"not heard, and may be there", seen{pairOf("10.0.0.1", "10.0.0.3"): {Port: 5, Dst: mac}}, 5, []int{5, 6}, 0, nil, 0, true},
	} {
		b := Bridge{Frames: tt.seen, Stations: func(of int, got [6]byte) (int, error) {
			if of != 5 || got != mac || len(tt.ports) == 2 && !tt.guest {
				t.Errorf("%s: asked for %x of %d", tt.name, got, of)
			}
			return tt.port, tt.err
		}, Unlisted: func() bool { return tt.guest }}
		if out, ok := b.Onward(dst, src, tt.in, tt.ports); ok != (tt.want != 0) || ok && out != tt.want {
			t.Errorf("%s: %d %v, want %d", tt.name, out, ok, tt.want)
		}
	}
}
