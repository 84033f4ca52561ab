// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
//
// The priority in VLAN tags (IEEE 802.1Q PCP), for the switches behind the box.

// By DSCP: 1 + the priority, or 0 where it stays as it is. Set per interface when the
// program is loaded.
volatile const __u8 priorities[64] = {0};
volatile const __u32 prioritized = 0; // some are not 0

// prioritize writes the priority of the outer tag, which is what the next switch
// looks at, and leaves VLAN and DEI alone.
ALWAYS_INLINE int prioritize(struct __sk_buff *skb, struct tags *t, __u32 dscp)
{
	__u32 to;

	if (!prioritized)
		return TCX_NEXT;
	to = priorities[dscp & 63];
	if (!to)
		return TCX_NEXT;
	to = (to - 1) << 13;
	if (skb->vlan_present) {
		__u32 was = skb->vlan_tci, now = (was & 0x1fff) | to;
		__be16 proto = skb->vlan_proto;

		if (was == now)
			return TCX_NEXT;
		// An inner tag goes out of the frame and in again meanwhile. If that
		// fails for want of memory the tag may be lost: better the whole frame
		// than that it goes to another VLAN.
		if (bpf_skb_vlan_pop(skb) || bpf_skb_vlan_push(skb, proto, now))
			return TCX_DROP;
		return TCX_NEXT;
	}
	if (t->n) {
		__be16 was = t->tag[0].tci, now = (was & bpf_htons(0x1fff)) | bpf_htons(to);

		if (was != now)
			bpf_skb_store_bytes(skb, link_header, &now, sizeof(now), BPF_F_RECOMPUTE_CSUM);
	}
	return TCX_NEXT;
}
