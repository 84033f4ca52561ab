package wire

import "testing"

// TestPreemptionRFC3181Section4: length 12, priority never above the defending
// priority, known strategy and error.
func TestPreemptionRFC3181Section4(t *testing.T) {
	p := Preemption{Strategy: MergeHighestPriority, Error: PreemptionPreempted, Priority: 7, Defending: 7}
	if got, err := ParsePreemption(p.Element()); err != nil || got != p {
		t.Errorf("%+v, %v", got, err)
	}
	for name, e := range map[string]PolicyElement{
		"short":    {PreemptionPriority, unhex("00010000")},
		"long":     {PreemptionPriority, make([]byte, 12)},
		"empty":    {PreemptionPriority, nil},
		"type":     {AuthUser, unhex("00010000 00010001")},
		"strategy": {PreemptionPriority, unhex("00000000 00010001")},
		"too new":  {PreemptionPriority, unhex("00040000 00010001")},
		"error":    {PreemptionPriority, unhex("00010300 00010001")},
		"priority": {PreemptionPriority, unhex("00010000 00020001")},
	} {
		if _, err := ParsePreemption(e); err == nil || asError(t, err).Value != PolicyBadElement {
			t.Errorf("%s: %v", name, err)
		}
	}
}
