//go:build ignore

// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
//
// The treatment of flows: one lookup by interface and five-tuple, then police
// by TSpec, mark the DSCP, choose the HTB class and count. Flows of a group
// (RFC 2205 section 1.3, shared reservations) are policed together, which is a
// second lookup. Packets that no reservation covers are conditioned in aggregate
// by their DSCP (RFC 2475 section 2.3), which is another.
//
// Built at development time, see generate.go; the object is committed.

#include "parse.h"

#define TCX_NEXT (-1) // let the programs of others see the packet too
#define TCX_DROP 2

#define PROTO_RSVP 46
#define ND_HOP_LIMIT 255 // RFC 4861 section 7.1: anything else was forwarded
#define DSCP_CS6 48
#define NSEC 1000000000ULL

#define FLOW_POLICE 1  // compare with the TSpec
#define FLOW_DROP 2    // what exceeds is dropped, not sent as best effort
#define FLOW_MARK 4    // write the DSCP
#define FLOW_RESERVE 256 // a reservation: what conforms is not policed again in aggregate
// The other bits from 8 on are user space's own notes and mean nothing here.

#define ANY_DSCP 63

// Depths and levels are in bytes * 10^9, so that rate * nanoseconds adds to
// them without a division or a rounding error. A peak of 0 is none. An
// idle time is that after which a bucket is full again whatever its debt was:
// beyond it rate * nanoseconds could overflow and need not be known.
struct spec {
	__u64 rate;       // r, bytes/s
	__u64 depth;      // b
	__u64 idle;       // ns
	__u64 peak;       // p, bytes/s
	__u64 peak_depth; // M
	__u64 peak_idle;  // ns
	__u32 min_unit;   // m, bytes
	__u32 max_packet; // M, bytes; 0 is no limit
	__u32 class;      // skb->priority, 0 leaves it alone
	__u32 excess;     // the same for what exceeds
	__u32 flags;
	__u32 dscp;  // and from bit 8 on that of what exceeds
	__u32 group; // whose bucket counts, 0: the flow's own
	__u32 pad;
};

struct levels {
	__s64 level; // of the (r, b) bucket; below 0 is debt
	__s64 peak;  // of the (p, M) bucket
	__u64 last;  // ns, when the levels were right
};

struct flow {
	struct spec spec;
	struct bpf_spin_lock lock;
	__u32 pad;
	struct levels levels; // not used in a group
	__u64 packets, bytes;
	__u64 conform_packets, conform_bytes;
	__u64 exceed_packets, exceed_bytes;
	__u64 dropped_packets, dropped_bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH); // never LRU: a reservation is not evicted
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 100000);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows SEC(".maps");

// What the flows of one reservation share. Class, mark and what becomes of the
// excess are each flow's own.
struct group {
	struct spec spec; // the TSpec
	struct bpf_spin_lock lock;
	__u32 pad;
	struct levels levels;
	struct flow_key name; // for the process that adopts the table
	__u32 pad2;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 100000);
	__type(key, __u32);
	__type(value, struct group);
} groups SEC(".maps");

// What is done to all packets with a DSCP that leave through an interface, or that
// arrive on it: a row of its service level specification. It is configuration,
// and valid without a lease, as the classes are.
struct level_key {
	__u32 ifindex;
	__u16 dscp;
	__u16 arriving;
};

struct level {
	struct spec spec; // no peak or m; dscp is that of what exceeds
	struct bpf_spin_lock lock;
	__u32 pad;
	struct levels levels;
	__u64 conform_packets, conform_bytes;
	__u64 exceed_packets, exceed_bytes;
	__u64 dropped_packets, dropped_bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 32768); // both ways, 64 code points, 256 interfaces
	__type(key, struct level_key);
	__type(value, struct level);
} dscps SEC(".maps");

// Until when (CLOCK_MONOTONIC, ns) the treatment is valid. The daemon renews
// it; if it died and nobody came back, flows become ordinary again.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lease SEC(".maps");

// Which rows of the table name less of a packet than its whole five-tuple (RFC
// 2205 section 3.2, Appendix A.9), so that most packets need one lookup.
#define PARTIAL_SPORT 1 // any source port
#define PARTIAL_PORTS 2 // any ports
#define PARTIAL_LABEL 4 // the flow label in the place of the source port

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} partial SEC(".maps");

// Which flow the later fragments of a packet are of, which have no ports. The first
// one says so when it passes, if its flow has a row: so that nobody who has no
// reservation takes room here. RFC 791 section 3.1: identification, addresses and
// protocol tell whose a fragment is; RFC 8200 section 4.5: without the protocol.
struct fragment_key {
	__u8 src[16];
	__u8 dst[16];
	__u32 ifindex;
	__be32 id;
	__u8 proto; // 0 for IPv6
	__u8 pad[3];
};

// The fragments of a packet leave one behind the other, where the kernel makes them:
// an entry is needed for some microseconds, about one for each processor. It is not
// removed then (nobody knows which fragment is the last to come); the oldest make
// room for new ones, and the next first fragment with the same key replaces it or
// takes it away. One that is left over can match nothing else than a fragment whose
// first one did not come by here, between the same addresses, and with the same
// identification and protocol. What is pushed out early costs its packet the
// treatment of the fragments that were yet to come, no more.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct fragment_key);
	__type(value, struct flow_key);
} fragments SEC(".maps");

// Set per interface when the program is loaded.
volatile const __u32 control_class = 0;
volatile const __u32 by_dscp = 0; // the table of code points has rows for this interface

// find looks for the flow that a packet is of: for IPsec by the SPI first (RFC
// 2207 section 4.1), else by the five-tuple, then by less and less of it. It leaves
// the row's key in k.
ALWAYS_INLINE struct flow *find(struct packet *p, struct flow_key *k)
{
	struct flow *f;
	__u32 zero = 0, *some;

	*k = p->key;
	if (p->ipsec) {
		k->proto = p->ipsec;
		__builtin_memcpy(&k->sport, &p->spi, sizeof(p->spi));
		f = bpf_map_lookup_elem(&flows, k);
		if (f)
			return f;
		*k = p->key;
	}
	f = bpf_map_lookup_elem(&flows, k);
	if (f)
		return f;
	some = bpf_map_lookup_elem(&partial, &zero);
	if (!some || !*some)
		return 0;
	k->sport = 0;
	if (*some & PARTIAL_LABEL && (p->label[0] | p->label[1] | p->label[2])) {
		__builtin_memcpy(k->label, p->label, sizeof(k->label));
		f = bpf_map_lookup_elem(&flows, k);
		if (f)
			return f;
		k->dport = 0;
		f = bpf_map_lookup_elem(&flows, k);
		if (f)
			return f;
		k->dport = p->key.dport;
		__builtin_memset(k->label, 0, sizeof(k->label));
	}
	if (*some & PARTIAL_SPORT) {
		f = bpf_map_lookup_elem(&flows, k);
		if (f)
			return f;
	}
	if (!(*some & PARTIAL_PORTS))
		return 0;
	k->dport = 0;
	return bpf_map_lookup_elem(&flows, k);
}

// name_fragment tells which packet a fragment is of.
ALWAYS_INLINE void name_fragment(struct packet *p, struct fragment_key *k)
{
	__builtin_memset(k, 0, sizeof(*k));
	__builtin_memcpy(k->src, p->key.src, sizeof(k->src));
	__builtin_memcpy(k->dst, p->key.dst, sizeof(k->dst));
	k->ifindex = p->key.ifindex;
	k->id = p->id;
	if (p->v4)
		k->proto = p->key.proto;
}

// continued looks for the flow of a later fragment, by what the first one noted.
ALWAYS_INLINE struct flow *continued(struct packet *p)
{
	struct fragment_key whole;
	struct flow_key k, *known;

	name_fragment(p, &whole);
	known = bpf_map_lookup_elem(&fragments, &whole);
	if (!known)
		return 0;
	k = *known;
	return bpf_map_lookup_elem(&flows, &k);
}

// note keeps the row of a first fragment for those that follow.
ALWAYS_INLINE void note(struct packet *p, struct flow *f, struct flow_key *k)
{
	struct fragment_key whole;

	name_fragment(p, &whole);
	if (f)
		bpf_map_update_elem(&fragments, &whole, k, BPF_ANY);
	else
		bpf_map_delete_elem(&fragments, &whole);
}

// flow_of is find for packets in fragments too: the later ones are of the flow that
// the first one was of. Where that is not known only a row without ports can be theirs.
// A packet that is whole pays two comparisons for it.
ALWAYS_INLINE struct flow *flow_of(struct packet *p)
{
	struct flow_key k;
	struct flow *f;

	if (p->later) {
		f = continued(p);
		if (f)
			return f;
	}
	f = find(p, &k);
	if (p->first)
		note(p, f, &k);
	return f;
}

// control tells what the network itself lives on.
ALWAYS_INLINE int control(struct __sk_buff *skb, struct packet *p)
{
	if (p->key.proto == PROTO_RSVP)
		return 1;
	// Neighbour and router discovery, RFC 4861 section 4: types 133 to 137.
	if (!p->v4 && p->key.proto == IPPROTO_ICMPV6 && p->hops == ND_HOP_LIMIT &&
	    p->icmp6 >= 133 && p->icmp6 <= 137)
		return 1;
	// Routing protocols of this box. Of forwarded packets nobody knows who
	// wrote CS6 into them.
	return skb->ingress_ifindex == 0 && p->tos >> 2 == DSCP_CS6;
}

// link_control is control for frames that carry no IP: ARP, and what switches say to
// each other.
ALWAYS_INLINE int link_control(struct __sk_buff *skb, __be16 type)
{
	__u8 to[ETH_ALEN];

	if (type == bpf_htons(ETH_P_ARP) || type == bpf_htons(ETH_P_LLDP) || type == bpf_htons(ETH_P_SLOW) ||
	    type == bpf_htons(ETH_P_PAE))
		return 1;
	if (link_header < ETH_HLEN || bpf_skb_load_bytes(skb, 0, to, sizeof(to)))
		return 0;
	// The group addresses of IEEE 802.1Q for spanning trees, link aggregation and
	// registration, with those of IS-IS (ISO 10589) among them. And those of Cisco,
	// whose spanning trees are one for each VLAN.
	if (to[0] == 1 && to[1] == 0x80 && to[2] == 0xc2 && !to[3] && !to[4])
		return to[5] <= 0x2f;
	return to[0] == 1 && !to[1] && to[2] == 0x0c && to[3] == 0xcc && to[4] == 0xcc && (to[5] | 1) == 0xcd;
}

// size is what a packet, or the packets that a super-packet becomes, amount to.
struct size {
	__u64 packets;
	__u64 bytes;   // IP bytes, header included
	__u64 policed; // the same where each packet counts at least m
	__u32 largest; // IP bytes
};

ALWAYS_INLINE void measure(struct __sk_buff *skb, struct packet *p, __u32 m, struct size *z)
{
	__u32 len = skb->len - p->l3;
	__u32 gso = skb->gso_size, header, payload, last;

	z->packets = 1;
	z->bytes = len;
	z->largest = len;
	z->policed = len > m ? len : m;
	if (!gso)
		return;

	header = p->l4 - p->l3;
	if (p->key.proto == IPPROTO_TCP) {
		__u8 off = 0;

		bpf_skb_load_bytes(skb, p->l4 + 12, &off, 1);
		header += (off >> 4) * 4;
	} else if (p->key.proto == IPPROTO_UDP) {
		header += sizeof(struct udphdr);
	}
	if (len <= header)
		return;
	payload = len - header;
	// gso_segs is not always set for packets from virtual machines; the
	// division is what the kernel itself falls back to.
	z->packets = (payload + gso - 1) / gso;
	if (z->packets < 2)
		return;
	last = payload - (z->packets - 1) * gso + header;
	z->largest = gso + header;
	z->bytes = payload + z->packets * header;
	z->policed = (z->packets - 1) * (z->largest > m ? z->largest : m) + (last > m ? last : m);
}

// fill brings a bucket's level up to now.
ALWAYS_INLINE __s64 fill(__s64 level, __u64 rate, __u64 depth, __u64 idle, __u64 passed)
{
	if (passed >= idle)
		return depth;
	level += rate * passed;
	return level > (__s64)depth ? (__s64)depth : level;
}

// fits: a single packet needs as much as it has. A super-packet needs at most
// a full bucket and pays in full, if need be into debt: had its packets come
// one by one, each conforming, then the bucket would be full now or hold
// enough, so merging is not punished; and the debt keeps the rate exact.
ALWAYS_INLINE int fits(__s64 level, __u64 depth, __u64 cost, int merged)
{
	__u64 need = merged && cost > depth ? depth : cost;

	return level >= (__s64)need;
}

ALWAYS_INLINE void advance(struct spec *s, struct levels *l, __u64 now)
{
	__u64 passed = now - l->last;

	// Two processors may read the clock in another order than they take the lock.
	if (now < l->last)
		passed = 0;
	else
		l->last = now;
	l->level = fill(l->level, s->rate, s->depth, s->idle, passed);
	if (s->peak)
		l->peak = fill(l->peak, s->peak, s->peak_depth, s->peak_idle, passed);
}

ALWAYS_INLINE int police(struct spec *s, struct levels *l, struct size *z, __u64 now)
{
	__u64 cost = z->policed * NSEC;
	int merged = z->packets > 1;

	advance(s, l, now);
	if (s->max_packet && z->largest > s->max_packet)
		return 0;
	if (!fits(l->level, s->depth, cost, merged))
		return 0;
	if (s->peak && !fits(l->peak, s->peak_depth, cost, merged))
		return 0;
	l->level -= cost;
	if (s->peak)
		l->peak -= cost;
	return 1;
}

// replace gives buckets another spec. What they were filled with up to now they
// were at the old rates: time that has passed counts for nothing at the new ones.
// Buckets that nobody took from so far begin full. used: the (r, b) bucket was.
ALWAYS_INLINE void replace(struct spec *s, struct levels *l, struct spec *to, int used, __u64 now)
{
	int peak = used && s->peak;

	if (used)
		advance(s, l, now);
	else
		l->level = to->depth;
	if (!peak)
		l->peak = to->peak_depth;
	// No later than what another processor has done a moment ago.
	if (now > l->last)
		l->last = now;
	// A debt stays one, however small the bucket has become.
	if (l->level > (__s64)to->depth)
		l->level = to->depth;
	if (l->peak > (__s64)to->peak_depth)
		l->peak = to->peak_depth;
	*s = *to;
}

ALWAYS_INLINE __s64 rest(__s64 level, __s64 cost)
{
	if (level > cost)
		return level - cost;
	return level < 0 ? level : 0;
}

// charge is for a flow of a group that may not be policed: it takes from the
// others what is there, and makes no debt for them.
ALWAYS_INLINE void charge(struct spec *s, struct levels *l, struct size *z, __u64 now)
{
	__u64 cost = z->policed * NSEC;

	advance(s, l, now);
	l->level = rest(l->level, cost);
	if (s->peak)
		l->peak = rest(l->peak, cost);
}

// DEBT is as deep as a bucket can be in debt: more than a super-packet.
#define DEBT ((__s64)(1 << 20) * (__s64)NSEC)

// owe is for what passes whatever the bucket of its level holds: it uses up the
// contract all the same, so that what is not reserved gets the rest of it.
ALWAYS_INLINE void owe(struct spec *s, struct levels *l, __u64 bytes, __u64 now)
{
	advance(s, l, now);
	l->level -= bytes * NSEC;
	if (l->level < -DEBT)
		l->level = -DEBT;
}

// find_level looks for the row of a code point.
ALWAYS_INLINE struct level *find_level(struct __sk_buff *skb, __u32 dscp, int arriving)
{
	struct level_key k = {
		.ifindex = skb->ifindex,
		.dscp = dscp,
		.arriving = arriving,
	};

	return bpf_map_lookup_elem(&dscps, &k);
}

// condition polices a packet in aggregate, and says in dscp what it leaves with.
ALWAYS_INLINE int condition(struct __sk_buff *skb, struct level *l, struct size *z, __u64 now, __u32 *dscp)
{
	__u32 class, flags, excess;
	int conforms = 1;

	z->policed = z->bytes;
	bpf_spin_lock(&l->lock);
	flags = l->spec.flags;
	class = l->spec.class;
	excess = l->spec.dscp;
	if (flags & FLOW_POLICE)
		conforms = police(&l->spec, &l->levels, z, now);
	if (conforms) {
		l->conform_packets += z->packets;
		l->conform_bytes += z->bytes;
	} else {
		class = l->spec.excess;
		l->exceed_packets += z->packets;
		l->exceed_bytes += z->bytes;
		if (flags & FLOW_DROP) {
			l->dropped_packets += z->packets;
			l->dropped_bytes += z->bytes;
		}
	}
	bpf_spin_unlock(&l->lock);

	if (!conforms) {
		if (flags & FLOW_DROP)
			return TCX_DROP;
		*dscp = excess & ANY_DSCP;
	}
	if (class)
		skb->priority = class;
	return TCX_NEXT;
}

// mark writes the DSCP and leaves ECN (RFC 3168) alone.
ALWAYS_INLINE void mark(struct __sk_buff *skb, struct packet *p, __u8 dscp)
{
	__u8 tos = dscp << 2 | (p->tos & 3);

	if (tos == p->tos)
		return;
	if (p->v4) {
		// The checksum is over 16-bit words: TOS is the low byte of the first.
		if (bpf_l3_csum_replace(skb, p->l3 + 10, bpf_htons(p->tos), bpf_htons(tos), 2) == 0)
			bpf_skb_store_bytes(skb, p->l3 + 1, &tos, 1, 0);
		return;
	}
	__u8 word[2];

	if (bpf_skb_load_bytes(skb, p->l3, word, 2))
		return;
	word[0] = 0x60 | tos >> 4;
	word[1] = tos << 4 | (word[1] & 15);
	bpf_skb_store_bytes(skb, p->l3, word, 2, BPF_F_RECOMPUTE_CSUM);
}

#include "priority.h"

// treat does with a packet what the row of its flow says, and tells in dscp what
// it leaves with, and whether its reservation covers it.
ALWAYS_INLINE int treat(struct __sk_buff *skb, struct packet *p, struct flow *f, struct size *z, __u64 now,
			__u32 *dscp, __u32 *reserved)
{
	struct group *g = 0;
	__u32 class, codes, flags, number;
	int conforms = 1;

	number = f->spec.group;
	if (number)
		g = bpf_map_lookup_elem(&groups, &number);
	if (g) {
		// One lock after the other: the kernel lets nobody hold two.
		measure(skb, p, g->spec.min_unit, z);
		flags = f->spec.flags;
		bpf_spin_lock(&g->lock);
		if (flags & FLOW_POLICE)
			conforms = police(&g->spec, &g->levels, z, now);
		else
			charge(&g->spec, &g->levels, z, now);
		bpf_spin_unlock(&g->lock);
	} else {
		measure(skb, p, f->spec.min_unit, z);
	}
	bpf_spin_lock(&f->lock);
	flags = f->spec.flags;
	class = f->spec.class;
	codes = f->spec.dscp;
	f->packets += z->packets;
	f->bytes += z->bytes;
	if (!(flags & FLOW_POLICE))
		conforms = 1; // even if it was policed a moment ago
	else if (!g)
		conforms = police(&f->spec, &f->levels, z, now);
	if (conforms) {
		f->conform_packets += z->packets;
		f->conform_bytes += z->bytes;
	} else {
		class = f->spec.excess;
		f->exceed_packets += z->packets;
		f->exceed_bytes += z->bytes;
		if (flags & FLOW_DROP) {
			f->dropped_packets += z->packets;
			f->dropped_bytes += z->bytes;
		}
	}
	bpf_spin_unlock(&f->lock);

	if (!conforms) {
		if (flags & FLOW_DROP)
			return TCX_DROP;
		*dscp = codes >> 8 & ANY_DSCP;
	} else {
		if (flags & FLOW_MARK)
			*dscp = codes & ANY_DSCP;
		*reserved = flags & FLOW_RESERVE;
	}
	if (class)
		skb->priority = class;
	return TCX_NEXT;
}

// network_control sends a packet to the small class that the network lives on.
ALWAYS_INLINE void network_control(struct __sk_buff *skb)
{
	if (control_class)
		skb->priority = control_class;
}

// serve does with an IP packet what its flow's row, or that of its DSCP, says, and
// tells what it leaves with.
ALWAYS_INLINE int serve(struct __sk_buff *skb, struct packet *p, __u32 *dscp)
{
	struct size z;
	struct level *l = 0;
	__u32 zero = 0, reserved = 0;
	__u64 now = 0, *valid;
	struct flow *f = flow_of(p);

	if (f) {
		now = bpf_ktime_get_ns();
		valid = bpf_map_lookup_elem(&lease, &zero);
		if (!valid || now > *valid)
			f = 0;
	}
	if (f && treat(skb, p, f, &z, now, dscp, &reserved) == TCX_DROP)
		return TCX_DROP;
	if (by_dscp)
		l = find_level(skb, *dscp, 0);
	if (!f && !l)
		return TCX_NEXT;
	if (l) {
		// What neither a reservation nor a contract is about is spared the clock.
		if (!f) {
			now = bpf_ktime_get_ns();
			measure(skb, p, 0, &z);
		}
		if (reserved) {
			bpf_spin_lock(&l->lock);
			if (l->spec.flags & FLOW_POLICE)
				owe(&l->spec, &l->levels, z.bytes, now);
			bpf_spin_unlock(&l->lock);
		} else if (condition(skb, l, &z, now, dscp) == TCX_DROP) {
			return TCX_DROP;
		}
	}
	mark(skb, p, *dscp);
	return TCX_NEXT;
}

SEC("tc")
int egress(struct __sk_buff *skb)
{
	struct packet p = {};
	struct tags tags;
	__be16 type;
	__u32 dscp;

	p.l3 = start(skb, &type, &tags);
	if (parse(skb, type, &p)) {
		if (link_control(skb, type))
			network_control(skb);
		return TCX_NEXT;
	}
	p.key.ifindex = skb->ifindex;
	dscp = p.tos >> 2;
	if (control(skb, &p))
		network_control(skb);
	else if (serve(skb, &p, &dscp) == TCX_DROP)
		return TCX_DROP;
	return prioritize(skb, &tags, dscp);
}

// ingress keeps the markings of hosts that are not trusted within the contract,
// and takes them away where there is none. What ends within its IP header is no packet:
// it goes on as it came.
SEC("tc")
int ingress(struct __sk_buff *skb)
{
	struct packet p = {};
	struct size z;
	struct level *l;
	struct tags tags;
	__be16 type;
	__u32 dscp = 0;

	p.l3 = start(skb, &type, &tags);
	if (type == bpf_htons(ETH_P_IP)) {
		if (skb->len < p.l3 + sizeof(struct iphdr) || bpf_skb_load_bytes(skb, p.l3 + 1, &p.tos, 1))
			return TCX_NEXT;
		p.v4 = 1;
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		__u8 word[2];

		if (skb->len < p.l3 + sizeof(struct ipv6hdr) || bpf_skb_load_bytes(skb, p.l3, word, 2))
			return TCX_NEXT;
		p.tos = word[0] << 4 | word[1] >> 4;
	} else {
		return TCX_NEXT;
	}
	if (by_dscp) {
		l = find_level(skb, p.tos >> 2, 1);
		if (l && !parse(skb, type, &p)) {
			dscp = p.tos >> 2;
			measure(skb, &p, 0, &z);
			if (condition(skb, l, &z, bpf_ktime_get_ns(), &dscp) == TCX_DROP)
				return TCX_DROP;
		}
	}
	mark(skb, &p, dscp);
	return TCX_NEXT;
}

#include "frames.h"

struct change_args {
	struct flow_key key;
	__u32 pad;
	struct spec spec;
};

// change gives a flow another spec and keeps its levels and counters, which user
// space could not do without losing what passes in between.
SEC("syscall")
int change(struct change_args *c)
{
	struct spec s = c->spec;
	struct flow_key k = c->key;
	__u64 now = bpf_ktime_get_ns();
	struct flow *f = bpf_map_lookup_elem(&flows, &k);

	if (!f)
		return 2; // ENOENT
	bpf_spin_lock(&f->lock);
	replace(&f->spec, &f->levels, &s, f->spec.flags & FLOW_POLICE && !f->spec.group, now);
	bpf_spin_unlock(&f->lock);
	return 0;
}

struct group_args {
	__u32 number;
	__u32 pad;
	struct spec spec;
};

// change_group is change for what the flows of a group share.
SEC("syscall")
int change_group(struct group_args *c)
{
	struct spec s = c->spec;
	__u32 number = c->number;
	__u64 now = bpf_ktime_get_ns();
	struct group *g = bpf_map_lookup_elem(&groups, &number);

	if (!g)
		return 2; // ENOENT
	bpf_spin_lock(&g->lock);
	replace(&g->spec, &g->levels, &s, 1, now);
	bpf_spin_unlock(&g->lock);
	return 0;
}

struct level_args {
	struct level_key key;
	struct spec spec;
};

// change_level is change for the row of a code point.
SEC("syscall")
int change_level(struct level_args *c)
{
	struct spec s = c->spec;
	struct level_key k = c->key;
	__u64 now = bpf_ktime_get_ns();
	struct level *l = bpf_map_lookup_elem(&dscps, &k);

	if (!l)
		return 2; // ENOENT
	bpf_spin_lock(&l->lock);
	replace(&l->spec, &l->levels, &s, l->spec.flags & FLOW_POLICE, now);
	bpf_spin_unlock(&l->lock);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
