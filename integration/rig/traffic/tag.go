package traffic

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// WithTag puts the outer VLAN tag back into a frame: the kernel keeps it beside the
// packet, and tells of it in struct tpacket_auxdata (packet(7)), a control message.
func WithTag(frame, control []byte) []byte {
	const addresses = 12
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(frame) < addresses {
		return frame
	}
	for _, m := range messages {
		const status, tci, tpid, size = 0, 16, 18, 20
		if m.Header.Level != unix.SOL_PACKET || m.Header.Type != unix.PACKET_AUXDATA || len(m.Data) < size {
			continue
		}
		flags := binary.NativeEndian.Uint32(m.Data[status:])
		if flags&unix.TP_STATUS_VLAN_VALID == 0 {
			continue
		}
		tag := make([]byte, 0, 4)
		kind := uint16(unix.ETH_P_8021Q)
		if flags&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
			kind = binary.NativeEndian.Uint16(m.Data[tpid:])
		}
		tag = binary.BigEndian.AppendUint16(tag, kind)
		tag = binary.BigEndian.AppendUint16(tag, binary.NativeEndian.Uint16(m.Data[tci:]))
		return slices.Insert(slices.Clone(frame), addresses, tag...)
	}
	return frame
}
