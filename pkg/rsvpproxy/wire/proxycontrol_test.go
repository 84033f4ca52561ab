package wire

import "testing"

// RFC 5946 section 4.2: length 8, reserved bits ignored, other values ignored.
func TestProxyControlRFC5946Section4_2(t *testing.T) {
	object := func(e ...PolicyElement) Object {
		o, err := (&PolicyData{Elements: e}).Object()
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	for _, c := range []ProxyControl{ProxyNeeded, ProxyNotNeeded} {
		o := object(Preemption{Strategy: 1, Priority: 1, Defending: 1}.Element(), c.Element())
		if got := ProxyControlOf([]Object{{Class: ClassPolicyData, CType: 9}, o}); got != c {
			t.Errorf("%d, want %d", got, c)
		}
	}
	e := ProxyNotNeeded.Element()
	e.Body[0], e.Body[2] = 0xff, 0xff
	if got := ProxyControlOf([]Object{object(e)}); got != ProxyNotNeeded {
		t.Errorf("reserved bits: %d", got)
	}
	for _, body := range [][]byte{{0, 0, 0, 0}, {0, 0, 0, 3}, {0, 0, 0, 1, 0, 0, 0, 0}} {
		if got := ProxyControlOf([]Object{object(PolicyElement{Type: ProxyControlType, Body: body})}); got != 0 {
			t.Errorf("% x: %d", body, got)
		}
	}
	if ProxyControlOf(nil) != 0 {
		t.Error("nothing")
	}
}
