package intserv

import (
	"testing"

	"pgregory.net/rapid"
)

func drawFlow(t *rapid.T, name string) FlowSpec {
	r := rapid.Float64Range(1, 1e9).Draw(t, name+" r")
	f := FlowSpec{Service: ControlledLoad, TSpec: TSpec{
		Rate: r, Bucket: 5000, Peak: r * rapid.Float64Range(1, 100).Draw(t, name+" p/r"), MinUnit: 64, MaxPacket: 1500,
	}}
	if rapid.Bool().Draw(t, name+" guaranteed") {
		f.Service, f.RSpec.Rate = Guaranteed, r*rapid.Float64Range(1, 10).Draw(t, name+" R/r")
	}
	return f
}

// RFC 4495 section 5.2, and Req#4 of section 4: the same reduction told twice
// reduces once, what comes out can be asked for, and it is no more than before.
func TestAtMostRFC4495(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, limit := drawFlow(t, "flow"), drawFlow(t, "limit")
		got := f.AtMost(limit)
		if again := got.AtMost(limit); again != got {
			t.Fatalf("%v, told again %v", got, again)
		}
		if err := got.Validate(); err != nil {
			t.Fatal(err)
		}
		if !f.Covers(got) || got.TSpec.Bucket != f.TSpec.Bucket {
			t.Fatalf("%v became %v", f, got)
		}
		if f.Service == limit.Service != got.Within(limit) {
			t.Fatalf("%v is not within %v", got, limit)
		}
		if f.Within(limit) && got != f {
			t.Fatalf("%v was within %v, and became %v", f, limit, got)
		}
	})
}
