package nfq

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	// maxVerdict is the room that one packet's answer takes at most, without
	// the payload: the end of a run, a verdict with mark, and padding.
	maxVerdict = 128
	// maxSend bounds one message to the kernel, which copies it whole.
	maxSend = 256 << 10
)

// verdictWriter collects the verdicts of a group of packets, given in the order
// of their ids, as netlink messages for one sendmsg. Payloads are not copied:
// they stay where they are until flush.
type verdictWriter struct {
	queue uint16
	send  func([]unix.Iovec) error

	enc   []byte // fixed capacity: iov points into it
	start int    // where the part of enc that is not yet in iov begins
	iov   []unix.Iovec
	total int
	// runID is the last of a run of packets that go on unchanged and have no
	// message yet. One batch verdict will cover them and all lower ids.
	runID  uint32
	inRun  bool
	lastID uint32 // highest id given, for the rescue after an error
	hasID  bool

	errors uint64 // failed sends
	err    error  // the last of them
}

func newVerdictWriter(queue uint16, batch int, send func([]unix.Iovec) error) *verdictWriter {
	return &verdictWriter{
		queue: queue, send: send,
		enc: make([]byte, 0, (batch+2)*maxVerdict),
		iov: make([]unix.Iovec, 0, 2*batch+4),
	}
}

// accept lets a packet go on as it is.
func (w *verdictWriter) accept(id uint32) {
	w.room(0)
	w.note(id)
	w.runID, w.inRun = id, true
}

// drop ends a packet. It may overtake the run before it: a packet that goes
// nowhere is in nobody's order, and the run's batch verdict can then be longer.
func (w *verdictWriter) drop(id uint32) {
	w.room(0)
	w.note(id)
	w.message(msgVerdict, nfDrop, id, attrHeader+8)
}

// verdict answers one packet for itself: with a mark, with a payload, or with
// another queue as its aim. The run before it ends first, to keep the order.
func (w *verdictWriter) verdict(id, verdict uint32, mark uint32, hasMark bool, payload []byte) {
	w.room(len(payload))
	w.note(id)
	w.endRun()
	attrs := attrHeader + 8
	if hasMark {
		attrs += attrHeader + 4
	}
	if payload != nil {
		attrs += align4(attrHeader + len(payload))
	}
	w.message(msgVerdict, verdict, id, attrs)
	if hasMark {
		w.attr(attrMark, 4)
		w.enc = binary.BigEndian.AppendUint32(w.enc, mark)
	}
	if payload != nil {
		w.attr(attrPayload, len(payload))
		w.cut()
		w.push(payload)
		for range align4(len(payload)) - len(payload) {
			w.enc = append(w.enc, 0)
		}
	}
}

// flush sends everything. If the kernel refuses, the packets are released
// unchanged, for no packet may stay behind: those that had been answered
// before the refusal are unknown to the kernel by then and are not hurt.
func (w *verdictWriter) flush() {
	w.endRun()
	w.cut()
	if len(w.iov) == 0 {
		w.hasID = false
		return
	}
	if err := w.send(w.iov); err != nil {
		w.fail(err)
		if w.hasID {
			w.reset()
			w.message(msgVerdictBatch, nfAccept, w.lastID, attrHeader+8)
			w.cut()
			if err := w.send(w.iov); err != nil {
				w.fail(err)
			}
		}
	}
	w.reset()
	w.hasID = false
}

func (w *verdictWriter) fail(err error) {
	w.errors++
	w.err = fmt.Errorf("verdict on queue %d: %w", w.queue, err)
}

// releaseAll lets everything go on that the kernel holds, read or not: a batch
// verdict far beyond the last id covers it. The ids wrap, so "far" is less
// than half of their space.
func (w *verdictWriter) releaseAll(last uint32) {
	w.flush()
	w.message(msgVerdictBatch, nfAccept, last+1<<30, attrHeader+8)
	w.flush()
}

func (w *verdictWriter) reset() {
	w.enc, w.iov, w.start, w.total, w.inRun = w.enc[:0], w.iov[:0], 0, 0, false
}

// room flushes if another answer with n bytes of payload would not fit.
func (w *verdictWriter) room(n int) {
	if len(w.enc)+2*maxVerdict > cap(w.enc) || len(w.iov)+3 > cap(w.iov) ||
		(w.total > 0 && w.total+len(w.enc)-w.start+n+2*maxVerdict > maxSend) {
		w.flush()
	}
}

func (w *verdictWriter) note(id uint32) { w.lastID, w.hasID = id, true }

func (w *verdictWriter) endRun() {
	if w.inRun {
		w.inRun = false
		w.message(msgVerdictBatch, nfAccept, w.runID, attrHeader+8)
	}
}

// message appends a message's headers and its verdict; attrs is the length of
// all its attributes, the verdict's included.
func (w *verdictWriter) message(typ uint16, verdict, id uint32, attrs int) {
	b := binary.NativeEndian.AppendUint32(w.enc, uint32(nlHeaderLen+nfgenLen+attrs))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // sequence, port
	b = append(b, unix.AF_UNSPEC, 0)
	w.enc = binary.BigEndian.AppendUint16(b, w.queue)
	w.attr(attrVerdictHdr, 8)
	w.enc = binary.BigEndian.AppendUint32(w.enc, verdict)
	w.enc = binary.BigEndian.AppendUint32(w.enc, id)
}

func (w *verdictWriter) attr(typ uint16, n int) {
	w.enc = binary.NativeEndian.AppendUint16(w.enc, uint16(attrHeader+n))
	w.enc = binary.NativeEndian.AppendUint16(w.enc, typ)
}

// cut moves what was encoded since the last cut to the list of parts.
func (w *verdictWriter) cut() {
	if w.start < len(w.enc) {
		part := w.enc[w.start:]
		w.start = len(w.enc)
		w.push(part)
	}
}

func (w *verdictWriter) push(part []byte) {
	if len(part) == 0 {
		return
	}
	w.total += len(part)
	w.iov = append(w.iov, unix.Iovec{Base: &part[0]})
	w.iov[len(w.iov)-1].SetLen(len(part))
}
