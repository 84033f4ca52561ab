package wire

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestBare: what is left of a message is the message without the objects of one
// transmission, whatever else it carries.
func TestBare(t *testing.T) {
	for name, m := range four.samples() {
		t.Run(name, func(t *testing.T) {
			if m.Type.objectless() || m.Type == Bundle {
				return
			}
			want := *m
			want.MessageID, want.Acks, want.Integrity = nil, nil, nil
			want.SendTTL = 17
			sent := *m
			sent.MessageID = &MessageID{Epoch: 7, ID: 9, AckDesired: true}
			sent.Acks = []MessageIDAck{{Epoch: 1, ID: 2}, {Epoch: 1, ID: 3, Nack: true}}
			options := Options{RefreshReduction: true, Formats: AllFormats}
			got, err := options.Parse(Bare(encode(t, &sent), 17))
			if err != nil {
				t.Fatal(err)
			}
			again, err := options.Parse(encode(t, &want))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(again, got, cmpOptions); d != "" {
				t.Error(d)
			}
		})
	}
}
