// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
//
// How the frames of flows look that come in on a bridge: what the frames must look
// like that the box itself sends between the same two hosts.

// A direction of a TCP connection; or everything from one address to another, with
// ports and protocol 0.
struct frame_key {
	__u8 src[16];
	__u8 dst[16];
	__be16 sport;
	__be16 dport;
	__u8 proto;
	__u8 pad[3];
} __attribute__((aligned(8)));

struct frame {
	__u64 seen;    // ns, CLOCK_MONOTONIC; a second late at most
	__u32 ifindex; // the port that it came in by
	__u32 moves;   // how often port, destination or VLAN were others than before
	__u8 dst[ETH_ALEN];
	__u8 src[ETH_ALEN];
	struct tag tag[2]; // the outer one first, 0 where there is none
	// Of the key, and read last: an entry that is given to another key while user
	// space reads it does not pass for the frame of the first one.
	__u32 check;
};

// Least recently used entries make room: what is not known is not served, no more.
// Pinned, so that a process that comes after a crash can speak in the name of hosts
// that are silent just then.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct frame_key);
	__type(value, struct frame);
} frames SEC(".maps");

// link_of reads the link header; 0 if no frame of ours could have the same one.
ALWAYS_INLINE int link_of(struct __sk_buff *skb, struct tags *t, struct frame *f)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	_Static_assert(__builtin_offsetof(struct frame, src) == __builtin_offsetof(struct frame, dst) + ETH_ALEN, "");
	if (data + 2 * ETH_ALEN <= end)
		__builtin_memcpy(f->dst, data, 2 * ETH_ALEN);
	else if (bpf_skb_load_bytes(skb, 0, f->dst, 2 * ETH_ALEN))
		return 0;
	if (t->n > 0)
		f->tag[0] = t->tag[0];
	if (t->n > 1)
		f->tag[1] = t->tag[1];
	if (!skb->vlan_present)
		return 1;
	if (t->n > 1)
		return 0; // three tags
	f->tag[1] = f->tag[0];
	f->tag[0].tpid = skb->vlan_proto;
	f->tag[0].tci = bpf_htons(skb->vlan_tci);
	return 1;
}

// same_vlan leaves priority and DEI aside, which packets of one flow may have many of.
ALWAYS_INLINE int same_vlan(struct tag *a, struct tag *b)
{
	return a->tpid == b->tpid && !((a->tci ^ b->tci) & bpf_htons(0x0fff));
}

ALWAYS_INLINE int same_station(const void *a, const void *b)
{
	const __u16 *x = a, *y = b;

	return !((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]));
}

// check_of folds a key so that each bit of it, and the order of its words, counts.
ALWAYS_INLINE __u32 check_of(struct frame_key *k)
{
	const __u32 *word = (const __u32 *)k;
	__u32 sum = 0;

#pragma unroll
	for (__u32 i = 0; i < sizeof(*k) / sizeof(*word); i++)
		sum = (sum << 5 | sum >> 27) ^ word[i];
	return sum;
}

// note_frame tells whether there was news.
ALWAYS_INLINE int note_frame(struct frame_key *k, struct frame *f)
{
	struct frame *was = bpf_map_lookup_elem(&frames, k);

	f->moves = 0;
	if (was) {
		int moved = was->ifindex != f->ifindex || !same_vlan(&was->tag[0], &f->tag[0]) ||
			    !same_vlan(&was->tag[1], &f->tag[1]) || !same_station(was->dst, f->dst);

		if (!moved && same_station(was->src, f->src)) {
			if ((__s64)(f->seen - was->seen) < (__s64)NSEC)
				return 0;
			// Nothing that must agree with something else.
			was->seen = f->seen;
			was->tag[0].tci = f->tag[0].tci;
			was->tag[1].tci = f->tag[1].tci;
			return 1;
		}
		f->moves = was->moves + moved;
	}
	f->check = check_of(k);
	// Whole: nobody reads the port of one frame and the address of another.
	bpf_map_update_elem(&frames, k, f, BPF_ANY);
	return 1;
}

// unspecified tells the source address that nobody has: of who asks for one, or
// whether another has it already.
ALWAYS_INLINE int unspecified(struct packet *p)
{
	__u32 a[4];

	__builtin_memcpy(a, p->key.src, sizeof(a));
	return !a[3] && (p->v4 || !(a[0] | a[1] | a[2]));
}

// learn keeps what the frames of each TCP connection and of each pair of addresses
// look like. Most packets cost it one lookup: they find what they would have said
// themselves, not a second old.
SEC("tc")
int learn(struct __sk_buff *skb)
{
	struct packet p = {};
	struct frame_key k = {};
	struct frame f = {};
	struct tags tags;
	__be16 type;

	p.l3 = start(skb, &type, &tags);
	if (parse(skb, type, &p) || unspecified(&p) || !link_of(skb, &tags, &f))
		return TCX_NEXT;
	f.ifindex = skb->ifindex;
	f.seen = bpf_ktime_get_coarse_ns(); // a few ms behind the clock, and cheap
	__builtin_memcpy(k.src, p.key.src, sizeof(k.src));
	__builtin_memcpy(k.dst, p.key.dst, sizeof(k.dst));
	if (p.key.proto == IPPROTO_TCP && !p.later) {
		k.proto = p.key.proto;
		k.sport = p.key.sport;
		k.dport = p.key.dport;
		if (!note_frame(&k, &f))
			return TCX_NEXT;
		k.proto = 0;
		k.sport = 0;
		k.dport = 0;
	}
	note_frame(&k, &f);
	return TCX_NEXT;
}
