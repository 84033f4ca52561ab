package wire

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var reduce = Options{RefreshReduction: true}

// reduced returns messages that together have every object of RFC 2961.
func reduced() map[string]*Message {
	id := &MessageID{Epoch: 0xabcdef, ID: 0x01020304, AckDesired: true}
	acks := []MessageIDAck{{Epoch: 0x123456, ID: 7}, {Epoch: 0x123456, ID: 8, Nack: true}}
	all := map[string]*Message{
		"ack":  {Type: Ack, Flags: RefreshReduction, SendTTL: 255, Acks: acks},
		"list": {Type: Srefresh, Flags: RefreshReduction, SendTTL: 255, Lists: []MessageIDList{{Epoch: 0xabcdef, IDs: []ListedID{{ID: 1}, {ID: 0xffffffff}}}}},
	}
	for name, f := range map[string]family{"4": four, "6": six} {
		group := ip("232.1.1.1")
		if name == "6" {
			group = ip("ff3e::1")
		}
		for kind, m := range f.samples() {
			m.Flags |= RefreshReduction
			m.MessageID, m.Acks = id, acks
			all[kind+name] = m
		}
		all["srclist"+name] = &Message{Type: Srefresh, Flags: 1, SendTTL: 64, MessageID: id, Acks: acks, Lists: []MessageIDList{
			{Kind: SourceList, Epoch: 1, IDs: []ListedID{{ID: 1, Src: f.src}, {ID: 2, Src: f.src2}}},
			{Kind: SourceList, Epoch: 2, IDs: []ListedID{{ID: 1, Src: f.src}}},
		}}
		all["mcastlist"+name] = &Message{Type: Srefresh, Flags: 1, SendTTL: 64, Lists: []MessageIDList{
			{Epoch: 1, IDs: []ListedID{{ID: 3}}},
			{Kind: MulticastList, Epoch: 1, IDs: []ListedID{{ID: 1, Src: f.src, Dst: group}, {ID: 2, Src: f.src2, Dst: group}}},
		}}
	}
	return all
}

func TestReductionRoundTrip(t *testing.T) {
	for name, m := range reduced() {
		b := encode(t, m)
		if m.Length() != len(b) {
			t.Errorf("%s: Length %d, wrote %d bytes", name, m.Length(), len(b))
		}
		got, err := reduce.Parse(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(m, got, cmpOptions); d != "" {
			t.Errorf("%s: parsed (-want +got):\n%s", name, d)
		}
		if !bytes.Equal(b, encode(t, got)) {
			t.Errorf("%s: encoded again differently", name)
		}
		for n := range b {
			if _, err := reduce.Parse(b[:n]); err == nil {
				t.Errorf("%s: prefix of %d bytes accepted", name, n)
			}
			if n < commonHeader || n%4 == 0 {
				continue
			}
			if _, err := reduce.Parse(reseal(bytes.Clone(b[:n]))); err == nil {
				t.Errorf("%s: resealed prefix of %d bytes accepted", name, n)
			}
		}
	}
}

// The figures of RFC 2961 sections 4.2, 4.3 and 5.1.
func TestReductionObjectsRFC2961(t *testing.T) {
	golden(t, MessageID{Epoch: 0xabcdef, ID: 0x01020304, AckDesired: true}, "000c1701 01abcdef 01020304")
	golden(t, MessageID{Epoch: 0x1abcdef, ID: 5}, "000c1701 00abcdef 00000005")
	golden(t, MessageIDAck{Epoch: 1, ID: 2}, "000c1801 00000001 00000002")
	golden(t, MessageIDAck{Epoch: 1, ID: 2, Nack: true}, "000c1802 00000001 00000002")
	golden(t, MessageIDList{Epoch: 1, IDs: []ListedID{{ID: 2}, {ID: 3}}}, "00101901 00000001 00000002 00000003")
	golden(t, MessageIDList{Kind: SourceList, Epoch: 1, IDs: []ListedID{{ID: 2, Src: ip("10.0.0.1")}}}, "00101902 00000001 00000002 0a000001")
	golden(t, MessageIDList{Kind: MulticastList, Epoch: 1, IDs: []ListedID{{ID: 2, Src: ip("10.0.0.1"), Dst: ip("232.0.0.1")}}},
		"00141904 00000001 00000002 0a000001 e8000001")
	golden(t, MessageIDList{Kind: SourceList, Epoch: 1, IDs: []ListedID{{ID: 2, Src: ip("2001:db8::1")}}},
		"001c1903 00000001 00000002 20010db8 00000000 00000000 00000001")
	golden(t, MessageIDList{Kind: MulticastList, Epoch: 1, IDs: []ListedID{{ID: 2, Src: ip("2001:db8::1"), Dst: ip("ff3e::1")}}},
		"002c1905 00000001 00000002 20010db8 00000000 00000000 00000001 ff3e0000 00000000 00000000 00000001")
}

// RFC 2961 section 4.2: undefined flags; sections 4.3 and 5.1: flags are
// ignored on receipt.
func TestReductionFlagsIgnoredRFC2961Section4_3(t *testing.T) {
	m, err := reduce.Parse(raw(Srefresh,
		Object{ClassMessageIDAck, 1, unhex("ff000001 00000002")},
		Object{ClassMessageID, 1, unhex("fe000001 00000002")},
		Object{ClassMessageIDList, 1, unhex("ff000001 00000002")}))
	if err != nil || m.MessageID.AckDesired || m.MessageID.Epoch != 1 || m.Acks[0].Epoch != 1 || m.Lists[0].Epoch != 1 {
		t.Fatalf("%+v, %v", m, err)
	}
}

// RFC 2961 section 4.8: a node without the extension answers MESSAGE_ID with
// "Unknown Object Class", and knows none of the messages.
func TestReductionUnknownRFC2961Section4_8(t *testing.T) {
	all := reduced()
	m, err := Parse(encode(t, all["path4"]))
	if e := asError(t, err); m == nil || !e.Respond || e.Code != ErrUnknownClass {
		t.Errorf("%+v %v", m, err)
	}
	for name, m := range all {
		if !m.Type.objectless() {
			continue
		}
		if _, err := Parse(encode(t, m)); asError(t, err).Kind != KindType {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// RFC 2961 section 4.1: behind INTEGRITY come acknowledgments, then one
// MESSAGE_ID, then the rest; sections 4.4 and 5.2: the BNF of Ack and Srefresh.
func TestReductionOrderRFC2961Section4_1(t *testing.T) {
	id, ack := MessageID{Epoch: 1, ID: 1}, MessageIDAck{Epoch: 1, ID: 1}
	integrity := Object{ClassIntegrity, 1, make([]byte, 32)}
	list := MessageIDList{Epoch: 1, IDs: []ListedID{{ID: 1}}}
	src := MessageIDList{Kind: SourceList, Epoch: 1, IDs: []ListedID{{ID: 1, Src: four.src}}}
	tear := parts(four.samples()["pathtear"])
	for name, tt := range map[string]struct {
		typ  MsgType
		objs []object
		want Kind
	}{
		"good":                  {PathTear, append([]object{integrity, ack, ack, id}, tear...), 0},
		"id before ack":         {PathTear, append([]object{id, ack}, tear...), KindOrder},
		"id at the end":         {PathTear, append(append([]object{}, tear...), id), KindOrder},
		"ack at the end":        {PathTear, append(append([]object{}, tear...), ack), KindOrder},
		"two ids":               {PathTear, append([]object{id, id}, tear...), KindDuplicate},
		"list in PathTear":      {PathTear, append([]object{list}, tear...), KindIllegalClass},
		"C-Type of id":          {PathTear, append([]object{Object{ClassMessageID, 2, make([]byte, 8)}}, tear...), KindUnknownCType},
		"size of id":            {PathTear, append([]object{Object{ClassMessageID, 1, make([]byte, 12)}}, tear...), KindObjectLength},
		"C-Type of ack":         {Ack, []object{Object{ClassMessageIDAck, 3, make([]byte, 8)}}, KindUnknownCType},
		"size of ack":           {Ack, []object{Object{ClassMessageIDAck, 1, make([]byte, 4)}}, KindObjectLength},
		"good ack":              {Ack, []object{integrity, ack}, 0},
		"empty ack":             {Ack, nil, KindMissing},
		"id in ack":             {Ack, []object{ack, id}, KindIllegalClass},
		"list in ack":           {Ack, []object{ack, list}, KindIllegalClass},
		"session in ack":        {Ack, []object{ack, tear[0]}, KindIllegalClass},
		"empty srefresh":        {Srefresh, []object{id}, KindMissing},
		"id behind list":        {Srefresh, []object{list, id}, KindOrder},
		"good lists":            {Srefresh, []object{id, list, list}, 0},
		"src list with another": {Srefresh, []object{src, list}, KindIllegalClass},
		"empty list":            {Srefresh, []object{Object{ClassMessageIDList, 1, make([]byte, 4)}}, KindObjectLength},
		"C-Type of list":        {Srefresh, []object{Object{ClassMessageIDList, 6, make([]byte, 8)}}, KindUnknownCType},
		"half an element":       {Srefresh, []object{Object{ClassMessageIDList, 2, make([]byte, 16)}}, KindObjectLength},
		"source zero":           {Srefresh, []object{Object{ClassMessageIDList, 2, make([]byte, 12)}}, KindAddress},
	} {
		_, err := reduce.Parse(raw(tt.typ, tt.objs...))
		if tt.want == 0 {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || asError(t, err).Kind != tt.want || asError(t, err).Respond {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

// RFC 2961 section 4.5: comparison across the wrap.
func TestMessageIDBeforeRFC2961Section4_5(t *testing.T) {
	for _, tt := range []struct {
		a, b uint32
		want bool
	}{{1, 2, true}, {2, 1, false}, {1, 1, false}, {0xffffffff, 0, true}, {0, 0xffffffff, false}} {
		if got := (MessageID{ID: tt.a}).Before(MessageID{ID: tt.b}); got != tt.want {
			t.Errorf("%d before %d: %v", tt.a, tt.b, got)
		}
	}
}

func TestReductionAppendRefuses(t *testing.T) {
	for name, m := range map[string]*Message{
		"ack without":      {Type: Ack},
		"ack with id":      {Type: Ack, Acks: []MessageIDAck{{}}, MessageID: &MessageID{}},
		"ack with list":    {Type: Ack, Acks: []MessageIDAck{{}}, Lists: []MessageIDList{{IDs: []ListedID{{}}}}},
		"srefresh without": {Type: Srefresh},
		"empty list":       {Type: Srefresh, Lists: []MessageIDList{{}}},
		"list kind":        {Type: Srefresh, Lists: []MessageIDList{{Kind: 9, IDs: []ListedID{{}}}}},
		"no source":        {Type: Srefresh, Lists: []MessageIDList{{Kind: SourceList, IDs: []ListedID{{}}}}},
		"no group":         {Type: Srefresh, Lists: []MessageIDList{{Kind: MulticastList, IDs: []ListedID{{Src: four.src, Dst: four.dst}}}}},
		"mixed families":   {Type: Srefresh, Lists: []MessageIDList{{Kind: SourceList, IDs: []ListedID{{Src: four.src}, {Src: six.src}}}}},
		"too long":         {Type: Srefresh, Lists: []MessageIDList{{IDs: make([]ListedID, 1<<14)}}},
		"list in path":     {Type: PathTear, Session: four.samples()["pathtear"].Session, Hop: four.samples()["pathtear"].Hop, Lists: []MessageIDList{{IDs: []ListedID{{}}}}},
	} {
		if b, err := m.Append([]byte{1}); err == nil || len(b) != 1 {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	full := &Message{Type: Srefresh, Lists: []MessageIDList{{IDs: make([]ListedID, MaxListed(1480))}}}
	if b := encode(t, full); len(b) > 1480 || len(b) <= 1476 {
		t.Errorf("a full Srefresh has %d bytes", len(b))
	}
}
