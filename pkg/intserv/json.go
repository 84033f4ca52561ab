package intserv

import (
	"encoding/json"
	"fmt"
	"math"
)

// jsonSpec is how TSpec and FlowSpec look in the API. The letters differ only
// in case, so one struct has to know them all: encoding/json would otherwise
// take R for r.
type jsonSpec struct {
	Service *Service `json:"service,omitempty"`
	Rate    float64  `json:"r"`
	Bucket  float64  `json:"b"`
	Peak    *float64 `json:"p"`
	MinUnit uint32   `json:"m"`
	MaxPkt  uint32   `json:"M"`
	R       *float64 `json:"R,omitempty"`
	S       *uint32  `json:"S,omitempty"`
}

func (t TSpec) json() jsonSpec {
	j := jsonSpec{Rate: t.Rate, Bucket: t.Bucket, MinUnit: t.MinUnit, MaxPkt: t.MaxPacket}
	if !math.IsInf(t.Peak, 1) {
		j.Peak = &t.Peak
	}
	return j
}

func (j jsonSpec) tspec() TSpec {
	t := TSpec{Rate: j.Rate, Bucket: j.Bucket, Peak: math.Inf(1), MinUnit: j.MinUnit, MaxPacket: j.MaxPkt}
	if j.Peak != nil {
		t.Peak = *j.Peak
	}
	return t
}

// MarshalJSON writes {"r","b","p","m","M"} in bytes/s and bytes; p is null when
// it is infinite, which JSON has no number for.
func (t TSpec) MarshalJSON() ([]byte, error) { return json.Marshal(t.json()) }

// UnmarshalJSON reads what MarshalJSON writes; p missing or null is infinite.
func (t *TSpec) UnmarshalJSON(b []byte) error {
	var j jsonSpec
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("tspec: %w", err)
	}
	*t = j.tspec()
	return nil
}

// MarshalJSON writes the TSpec's keys and "service", "R" (bytes/s) and "S"
// (microseconds), the last two zero but for guaranteed service.
func (f FlowSpec) MarshalJSON() ([]byte, error) {
	j := f.TSpec.json()
	j.Service, j.R, j.S = &f.Service, &f.RSpec.Rate, &f.RSpec.Slack
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (f *FlowSpec) UnmarshalJSON(b []byte) error {
	var j jsonSpec
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("flowspec: %w", err)
	}
	*f = FlowSpec{TSpec: j.tspec()}
	if j.Service != nil {
		f.Service = *j.Service
	}
	if j.R != nil {
		f.RSpec.Rate = *j.R
	}
	if j.S != nil {
		f.RSpec.Slack = *j.S
	}
	return nil
}
