package nfq

import "golang.org/x/sys/unix"

// The part of linux/netfilter/nfnetlink_queue.h and of its companions that is
// used here.
const (
	msgPacket       = unix.NFNL_SUBSYS_QUEUE << 8
	msgVerdict      = unix.NFNL_SUBSYS_QUEUE<<8 | 1
	msgConfig       = unix.NFNL_SUBSYS_QUEUE<<8 | 2
	msgVerdictBatch = unix.NFNL_SUBSYS_QUEUE<<8 | 3

	attrPacketHdr  = 1
	attrVerdictHdr = 2
	attrMark       = 3
	attrInDev      = 5
	attrOutDev     = 6
	attrPhysInDev  = 7
	attrPhysOutDev = 8
	attrPayload    = 10
	attrCapLen     = 13
	attrSkbInfo    = 14

	cfgCmd    = 1
	cfgParams = 2
	cfgMaxLen = 3
	cfgMask   = 4
	cfgFlags  = 5

	cmdBind        = 1
	copyPacket     = 2
	flagFailOpen   = 1 << 0
	flagGSO        = 1 << 2
	skbCsumUnready = 1 << 0
	skbGSO         = 1 << 1

	nfDrop   = 0
	nfAccept = 1
	nfQueue  = 3
	// nfQueueBypass lets a packet go on if nobody listens on the queue that it
	// is sent to.
	nfQueueBypass = 0x8000

	nlHeaderLen  = unix.NLMSG_HDRLEN
	nfgenLen     = 4
	attrHeader   = unix.NLA_HDRLEN
	attrTypeMask = 0x3fff

	// maxPayload is the longest payload that fits an attribute.
	maxPayload = 0xffff - attrHeader
	// headroom is for everything in a packet message but the payload; the
	// attributes of today's kernels come to about 200 bytes.
	headroom = 1024
)

// align4 is NLA_ALIGN and NLMSG_ALIGN.
func align4(n int) int { return (n + 3) &^ 3 }
