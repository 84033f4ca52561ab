package wire

import (
	"cmp"
	"iter"
	"slices"
)

// Append appends the encoded message to b, with length and checksum. The
// objects come in the order of RFC 2205's BNF. It refuses what Parse would
// refuse, with an *[Error].
func (m *Message) Append(b []byte) ([]byte, error) {
	if m.Type == Bundle {
		return m.appendBundle(b)
	}
	if err := m.sendable(); err != nil {
		return b, err
	}
	start := len(b)
	b = append(b, version<<4|m.Flags&0x0f, uint8(m.Type), 0, 0, m.SendTTL, 0, 0, 0)
	for o := range m.objects() {
		if n := objectHeader + o.size(); len(b)-start+n > MaxMessage {
			class, _ := o.header()
			return b[:start], malformed(KindTooLong, class, "message above %d bytes", MaxMessage)
		}
		b = appendObject(b, o)
	}
	seal(b[start:])
	return b, nil
}

// Length returns how many bytes Append adds.
func (m *Message) Length() int {
	n := commonHeader
	if m.Type == Bundle {
		for _, sub := range m.Bundle {
			n += sub.Length()
		}
		return n
	}
	for o := range m.objects() {
		n += objectHeader + o.size()
	}
	return n
}

// objects yields the message's objects in the order of RFC 2205 section 3.1.
func (m *Message) objects() iter.Seq[object] {
	return func(yield func(object) bool) {
		e := emitter{yield: yield, ok: true}
		if m.Integrity != nil {
			e.put(m.Integrity)
		}
		m.emitIDs(&e)
		if m.Type.objectless() {
			for i := range m.Lists {
				e.put(&m.Lists[i])
			}
			e.all(m.Unknown)
			return
		}
		if m.Type == Notify && m.ErrorSpec != nil {
			e.put(m.ErrorSpec)
		}
		m.body(&e)
		for _, part := range m.More {
			part.body(&e)
		}
	}
}

// body emits all from the SESSION on.
func (m *Message) body(e *emitter) {
	e.put(&m.Session)
	if m.Hop != nil {
		e.put(m.Hop)
	}
	if m.TimeValues != nil {
		e.put(m.TimeValues)
	}
	if m.ErrorSpec != nil && m.Type != Notify {
		e.put(m.ErrorSpec)
	}
	if m.ResvConfirm.IsValid() {
		e.put(resvConfirm{&m.ResvConfirm})
	}
	if len(m.Scope) > 0 {
		e.put(sortScope(slices.Clone(scope(m.Scope))))
	}
	e.all(m.Policy)
	for i := range m.SOI {
		e.put(soi{&m.SOI[i]})
	}
	m.sender(e)
	e.all(m.Unknown)
	if m.TunnelEnd {
		e.put(nodeChar{})
	}
	if m.Style != 0 {
		e.put(m.Style)
	}
	for i := range m.Flows {
		m.Flows[i].emit(e)
	}
}

// sender emits the sender descriptor.
func (m *Message) sender(e *emitter) {
	if m.SenderTemplate != nil {
		e.put(senderTemplate{m.SenderTemplate})
	}
	switch {
	case m.RawTSpec != nil:
		e.put(m.RawTSpec)
	case m.SenderTSpec != nil:
		e.put(senderTSpec{m.SenderTSpec})
	}
	switch {
	case m.RawAdSpec != nil:
		e.put(m.RawAdSpec)
	case m.AdSpec != nil:
		e.put(adSpec{m.AdSpec})
	}
}

func (f *FlowDescriptor) emit(e *emitter) {
	switch {
	case f.Raw != nil:
		e.put(f.Raw)
	case f.FlowSpec != nil:
		e.put(flowSpec{f.FlowSpec})
	}
	for i := range f.Filters {
		e.put(filterSpec{&f.Filters[i]})
	}
	e.all(f.Unknown)
}

// emitter stops calling yield once it said so. What it puts are pointers, or
// structs that hold nothing but one: making an interface of such a value
// allocates nothing, and each message is gone through several times.
type emitter struct {
	yield func(object) bool
	ok    bool
}

func (e *emitter) put(o object) {
	if e.ok {
		e.ok = e.yield(o)
	}
}

func (e *emitter) all(os []Object) {
	for i := range os {
		e.put(&os[i])
	}
}

// sendable holds the message to the rules that Parse applies.
func (m *Message) sendable() error {
	if !m.Type.Known() && !m.Type.objectless() && m.Type != Notify {
		return malformed(KindType, 0, "message type %d", m.Type)
	}
	have, err := m.opaque()
	if err != nil {
		return err
	}
	if err := checkClasses(m.Type, have); err != nil {
		return err
	}
	if m.Type.objectless() {
		if err := m.finishReduction(); err != nil {
			return err
		}
		return nil
	}
	if m.TunnelEnd && m.Type != Resv {
		return malformed(KindIllegalClass, ClassNodeChar, "in a %v message", m.Type)
	}
	if len(m.Lists) > 0 {
		return malformed(KindIllegalClass, ClassMessageIDList, "in a %v message", m.Type)
	}
	if err := m.check(); err != nil {
		return err
	}
	if m.Style != 0 {
		if !m.Style.Known() && m.Type != ResvErr {
			return malformed(KindUnknownStyle, ClassStyle, "%v", m.Style)
		}
		sent := *m
		sent.BadFlows = nil
		if err := sent.checkFlows(); err != nil {
			return err
		}
	}
	if err := m.checkValues(); err != nil {
		err.Respond = false
		return err
	}
	return m.checkMore()
}

// opaque holds the objects that are written as they are to what they claim to
// be, and returns the classes of the whole message.
func (m *Message) opaque() (have classes, err error) {
	for _, o := range m.Unknown {
		err = cmp.Or(err, o.travels())
	}
	for _, f := range m.Flows {
		err = cmp.Or(err, f.Raw.is(ClassFlowSpec))
		for _, o := range f.Unknown {
			err = cmp.Or(err, o.travels())
		}
	}
	for _, o := range m.Policy {
		err = cmp.Or(err, o.is(ClassPolicyData))
	}
	for i := range m.SOI {
		err = cmp.Or(err, soi{&m.SOI[i]}.check())
	}
	err = cmp.Or(err, m.Integrity.is(ClassIntegrity), m.RawTSpec.is(ClassSenderTSpec), m.RawAdSpec.is(ClassAdSpec))
	for o := range m.objects() {
		class, _ := o.header()
		if o.size()%4 != 0 {
			err = cmp.Or(err, error(malformed(KindObjectLength, class, "%d bytes of contents", o.size())))
		}
		if class.known() {
			have |= set(class)
		}
	}
	return have, err
}

// is says what is wrong if o, which may be missing, is not of class c.
func (o *Object) is(c Class) error {
	if o == nil || o.Class == c {
		return nil
	}
	return malformed(KindIllegalClass, o.Class, "in the place of %v", c)
}

// travels says what is wrong if o is not of a class that is forwarded unknown.
func (o *Object) travels() error {
	if o.Class>>6 == 0b11 {
		return nil
	}
	return malformed(KindIllegalClass, o.Class, "among the objects of unknown class")
}
