package byhand

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"time"

	"github.com/qosproxy/qosproxy/pkg/intserv"
	"github.com/qosproxy/qosproxy/pkg/packet"
)

// version of the file's form. Another one is refused: it is not for this
// program to guess what it means.
const version = 1

// MaxFile is how many bytes a file may have: a million entries have fewer.
const MaxFile = 1 << 30

// file is the book as JSON.
type file struct {
	Version      int     `json:"version"`
	Last         uint64  `json:"last_id"`
	Reservations []entry `json:"reservations"`
}

type entry struct {
	ID       uint64         `json:"id"`
	Protocol uint8          `json:"protocol"`
	Src      netip.AddrPort `json:"src"`
	Dst      netip.AddrPort `json:"dst"`
	Side     Side           `json:"side"`
	Service  string         `json:"service"`
	Rate     float64        `json:"rate"`  // bytes/s
	Burst    float64        `json:"burst"` // bytes
	Peak     float64        `json:"peak,omitempty"`
	MinUnit  uint32         `json:"min_unit"`
	MaxPkt   uint32         `json:"max_packet"`
	Delay    time.Duration  `json:"delay_ns,omitempty"`
	Style    Style          `json:"style"`
	DSCP     *uint8         `json:"dscp,omitempty"`
	TCP      TCP            `json:"tcp"`
	Drop     bool           `json:"drop,omitempty"`
	Excess   uint8          `json:"excess,omitempty"`
	Priority *priority      `json:"priority,omitempty"`
	Owner    string         `json:"owner,omitempty"`
	Comment  string         `json:"comment,omitempty"`
	Made     time.Time      `json:"made"`
	Expires  *time.Time     `json:"expires,omitempty"`
}

type priority struct {
	Setup uint16 `json:"setup"`
	Hold  uint16 `json:"hold"`
}

// Encode writes the book as a file's contents.
func (b *Book) Encode() ([]byte, error) {
	f := file{Version: version, Last: b.last, Reservations: []entry{}}
	for _, r := range b.List() {
		f.Reservations = append(f.Reservations, encode(&r))
	}
	out, err := json.MarshalIndent(f, "", " ")
	return append(out, '\n'), err
}

func encode(r *Reservation) entry {
	e := entry{
		ID: r.ID, Protocol: r.Flow.Proto, Src: r.Flow.SrcAddrPort(), Dst: r.Flow.DstAddrPort(), Side: r.Side,
		Service: r.Service.String(), Rate: r.TSpec.Rate, Burst: r.TSpec.Bucket,
		MinUnit: r.TSpec.MinUnit, MaxPkt: r.TSpec.MaxPacket, Delay: r.Delay, Style: r.Style, TCP: r.TCP, Drop: r.Drop, Excess: r.Excess,
		Owner: r.Owner, Comment: r.Comment, Made: r.Made.UTC(),
	}
	if !math.IsInf(r.TSpec.Peak, 1) {
		e.Peak = r.TSpec.Peak
	}
	if r.Given {
		e.Priority = &priority{r.Setup, r.Hold}
	}
	if r.Marked {
		e.DSCP = &r.DSCP
	}
	if !r.Expires.IsZero() {
		at := r.Expires.UTC()
		e.Expires = &at
	}
	return e
}

// Decode reads a file's contents. All of it is right, or it is refused: half of
// what somebody has reserved is worse than a clear word that none of it is there.
func Decode(data []byte, limit int) (*Book, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &v); err == nil && v.Version != version {
		return nil, fmt.Errorf("version %d of the file, this program reads version %d", v.Version, version)
	}
	dec.DisallowUnknownFields()
	var f file
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("not what this program wrote: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one object in the file")
	}
	b := New(limit)
	b.last = f.Last
	for i := range f.Reservations {
		r, err := f.Reservations[i].decode()
		if err == nil {
			err = r.Check()
		}
		if err == nil {
			err = b.fits(&r)
		}
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, err)
		}
		b.put(r)
	}
	return b, nil
}

// fits tells why an entry cannot be one of those before it.
func (b *Book) fits(r *Reservation) error {
	if r.ID == 0 || r.ID > b.last {
		return fmt.Errorf("id %d is not from 1 to last_id (%d)", r.ID, b.last)
	}
	if _, ok := b.byID[r.ID]; ok {
		return fmt.Errorf("id %d is there twice", r.ID)
	}
	if _, ok := b.flows[r.Flow]; ok {
		return fmt.Errorf("%s: %w", r.Flow, ErrTaken)
	}
	return nil
}

func (e *entry) decode() (Reservation, error) {
	service, err := intserv.ParseService(e.Service)
	if err != nil {
		return Reservation{}, err
	}
	if !e.Src.IsValid() || !e.Dst.IsValid() {
		return Reservation{}, errors.New("src or dst is missing")
	}
	r := Reservation{
		ID: e.ID, Flow: packet.MakeKey(e.Protocol, e.Src, e.Dst), Side: e.Side, Service: service,
		TSpec: intserv.TSpec{Rate: e.Rate, Bucket: e.Burst, Peak: math.Inf(1), MinUnit: e.MinUnit, MaxPacket: e.MaxPkt},
		Delay: e.Delay, Style: e.Style, TCP: e.TCP, Drop: e.Drop, Excess: e.Excess,
		Owner: e.Owner, Comment: e.Comment, Made: e.Made,
	}
	if e.Peak != 0 {
		r.TSpec.Peak = e.Peak
	}
	if p := e.Priority; p != nil {
		r.Priority = Priority{Given: true, Setup: p.Setup, Hold: p.Hold}
	}
	if e.DSCP != nil {
		r.Marked, r.DSCP = true, *e.DSCP
	}
	if e.Expires != nil {
		r.Expires = *e.Expires
	}
	return r, nil
}
