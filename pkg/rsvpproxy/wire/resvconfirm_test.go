package wire

import "testing"

// TestResvConfirmRFC2205AppendixA14 has the figure's layout.
func TestResvConfirmRFC2205AppendixA14(t *testing.T) {
	body := golden(t, resvConfirm{new(ip("10.1.36.6"))}, "0008 0f01 0a012406")
	if got, err := decodeResvConfirm(1, body); err != nil || got != ip("10.1.36.6") {
		t.Errorf("decoded %v, %v", got, err)
	}
	body = golden(t, resvConfirm{new(ip("2001:db8::6"))}, "0014 0f02 20010db8000000000000000000000006")
	if got, err := decodeResvConfirm(2, body); err != nil || got != ip("2001:db8::6") {
		t.Errorf("decoded %v, %v", got, err)
	}
	if _, err := decodeResvConfirm(1, body); err == nil {
		t.Error("16 bytes as IPv4")
	}
}
