package intserv

import (
	"encoding/json"
	"testing"
)

func TestJSON(t *testing.T) {
	for _, tc := range []struct {
		v    any
		want string
	}{
		{good(), `{"r":1000,"b":3000,"p":5000,"m":64,"M":1500}`},
		{TSpec{Rate: 1, Bucket: 2, Peak: inf}, `{"r":1,"b":2,"p":null,"m":0,"M":0}`},
		{
			FlowSpec{ControlledLoad, good(), RSpec{}},
			`{"service":"controlled-load","r":1000,"b":3000,"p":5000,"m":64,"M":1500,"R":0,"S":0}`,
		},
		{
			FlowSpec{Guaranteed, good(), RSpec{2000, 7}},
			`{"service":"guaranteed","r":1000,"b":3000,"p":5000,"m":64,"M":1500,"R":2000,"S":7}`,
		},
	} {
		b, err := json.Marshal(tc.v)
		if err != nil || string(b) != tc.want {
			t.Errorf("%v: %s, %v", tc.v, b, err)
		}
		switch v := tc.v.(type) {
		case TSpec:
			var got TSpec
			if err := json.Unmarshal(b, &got); err != nil || got != v {
				t.Errorf("back: %v, %v", got, err)
			}
		case FlowSpec:
			var got FlowSpec
			if err := json.Unmarshal(b, &got); err != nil || got != v {
				t.Errorf("back: %v, %v", got, err)
			}
		}
	}
}

// TestJSONCase: the keys of a flowspec differ only in case, which encoding/json
// by itself does not care about.
func TestJSONCase(t *testing.T) {
	var s TSpec
	if err := json.Unmarshal([]byte(`{"r":1,"R":9,"M":1500,"m":40}`), &s); err != nil {
		t.Fatal(err)
	}
	if want := (TSpec{Rate: 1, Peak: inf, MinUnit: 40, MaxPacket: 1500}); s != want {
		t.Errorf("%v", s)
	}
}

func TestJSONRefuses(t *testing.T) {
	var f FlowSpec
	for _, in := range []string{`{"service":"best-effort"}`, `{"r":"fast"}`, `[]`} {
		if err := json.Unmarshal([]byte(in), &f); err == nil {
			t.Errorf("%s was accepted as %v", in, f)
		}
	}
}
