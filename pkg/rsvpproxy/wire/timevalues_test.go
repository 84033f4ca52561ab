package wire

import (
	"testing"
	"time"
)

// TestTimeValuesRFC2205AppendixA4: milliseconds.
func TestTimeValuesRFC2205AppendixA4(t *testing.T) {
	body := golden(t, TimeValues{30000}, "0008 0501 00007530")
	got, err := decodeTimeValues(1, body)
	if err != nil || got.Period() != 30*time.Second {
		t.Errorf("decoded %v, %v", got, err)
	}
	if _, err := decodeTimeValues(1, nil); err == nil || err.Kind != KindObjectLength {
		t.Errorf("empty: %v", err)
	}
	if _, err := decodeTimeValues(2, body); err == nil || err.Value != 0x0502 {
		t.Errorf("C-Type 2: %v", err)
	}
	if p := (TimeValues{1<<32 - 1}).Period(); p != (1<<32-1)*time.Millisecond {
		t.Errorf("largest period: %v", p)
	}
}
