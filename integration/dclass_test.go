package integration

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/console"
	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/rsvpproxy/wire"
)

// streamPolicy says nothing of a mark.
const streamPolicy = `
  - name: stream
    match: {protocol: udp, to_port: 5004}
    reserve: {role: both, service: controlled-load, tspec: {rate: 80kbit, burst: 800B, max_packet: 400B}}
`

// RFC 2996 section 1.1, RFC 2998 section 3.2.2: the second box decides the DSCP and
// says so in RESV, the first one marks with it what goes between them. It follows
// when the second box decides anew, and marks as its own mapping says when it is
// told to listen to nobody.
func TestDClassRFC2996Section1_1(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	one, two := l.boxes[0], l.boxes[1]
	rsvp := capture(t, one.ns, rightWAN, isRSVP)
	wan := capture(t, two.ns, leftWAN, toPort(portVoice))
	decides := func(class string) string {
		c := l.edge(1, streamPolicy, "mapping: {controlled-load: "+class+"}").String()
		return strings.Replace(c, "{name: "+lanIface+", zone: hosts}", "{name: "+lanIface+", zone: hosts, dclass: send}", 1)
	}
	l.startAll(t, l.edge(0, streamPolicy, "").String(), decides("af21"))
	end := l.talk(t, portVoice, 40*time.Second)

	resv, _ := waitMessage(t, rsvp, wire.Resv)
	if codes, err := wire.FindDClass(resv.Flows[0].Unknown); err != nil || !slices.Equal(codes, []uint8{18}) {
		t.Errorf("RESV has DCLASS %v, %v", codes, err)
	}
	waitFrame(t, wan, "marked af21 before the second box", func(f []byte) bool { return dscpOf(f) == 18 })
	if row := one.waitSession(t, portVoice, console.SessionReserved); row.PHB != "af21" || !slices.Equal(row.DClass, []int{18}) {
		t.Errorf("%+v", row)
	}

	two.reload(t, decides("af11"))
	waitFrame(t, wan, "marked af11", func(f []byte) bool { return dscpOf(f) == 10 })

	one.reload(t, l.edge(0, streamPolicy, "mapping: {dclass: ignore}").String())
	waitFrame(t, wan, "marked as the first box's own mapping says", func(f []byte) bool { return dscpOf(f) == af31 })
	end().check(t)
}

// RFC 2998 section 4.1.1 steps 11 and 12: a host that speaks RSVP learns from RESV how
// it may mark its packets. What a host says whose marks are not kept goes no further
// than its box.
func TestDClassToTheHostRFC2998Section4_1_1(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2, nil)
	one, two := l.edge(0, "  []\n", ""), l.edge(1, "  []\n", "")
	one.secured = ", dclass: send"
	l.startAll(t, one.String(), two.String())
	toA, between, toB := capture(t, l.a, hostIface, isRSVP), capture(t, l.boxes[1].ns, leftWAN, isRSVP), capture(t, l.b, hostIface, isRSVP)
	tspec := intserv.TSpec{Rate: 10_000, Bucket: 800, Peak: 20_000, MinUnit: 64, MaxPacket: 400}
	say(t, l.a, addrB, &wire.Message{
		Type: wire.Path, Session: wire.Session{Dst: addrB, Protocol: 17, DstPort: portOther}, Hop: &wire.Hop{Addr: addrA, LIH: 5},
		TimeValues: &wire.TimeValues{Refresh: 30_000}, SenderTemplate: &wire.Filter{Src: addrA, SrcPort: 4000}, SenderTSpec: &tspec,
	})
	path, _ := waitMessage(t, toB, wire.Path)
	asked, err := wire.Parse(resvOf(t, path, addrB, wire.FF))
	if err != nil {
		t.Fatal(err)
	}
	asked.Flows[0].Unknown = []wire.Object{wire.DClass(46)}
	asked.SendTTL = 64
	b, err := asked.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer(t, l.b, path.Hop.Addr, b)()
	resv, _ := waitMessage(t, toA, wire.Resv)
	if codes, err := wire.FindDClass(resv.Flows[0].Unknown); err != nil || !slices.Equal(codes, []uint8{af31}) {
		t.Errorf("A is told %v, %v", codes, err)
	}
	resv, _ = waitMessage(t, between, wire.Resv)
	if codes, err := wire.FindDClass(resv.Flows[0].Unknown); err != nil || codes != nil {
		t.Errorf("between the boxes %v, %v", codes, err)
	}
	for i, want := range []string{"af31", "af31"} {
		if row := l.boxes[i].waitSession(t, portOther, console.SessionReserved); row.PHB != want {
			t.Errorf("%s: %+v", l.boxes[i].name, row)
		}
	}
}
