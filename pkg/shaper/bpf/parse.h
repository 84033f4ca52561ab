// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
//
// What a packet is: its link header with VLAN tags, addresses, ports, fragment and
// IPsec fields. For all programs.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

// Set per interface when the program is loaded.
volatile const __u32 link_header = ETH_HLEN; // bytes before the IP header, or before a VLAN tag

// Matches packet.FlowKey with the interface added. Ports in network order,
// IPv4 addresses in their IPv4-mapped form. Of flows that RFC 2207 names the
// SPI stands in the place of both ports. A source port of 0, or both, are any:
// see partial.
struct flow_key {
	__u8 src[16];
	__u8 dst[16];
	__be16 sport;
	__be16 dport;
	__u32 ifindex;
	__u8 proto;
	__u8 label[3]; // IPv6 flow label that stands for the source port, 0: none
};

// What a packet is, as far as the treatment needs to know.
struct packet {
	struct flow_key key;
	__u32 l3;     // offset of the IP header
	__u32 l4;     // offset of the transport header
	__u8 v4;
	__u8 tos;
	__u8 hops;
	__u8 later;   // a fragment without a transport header
	__u8 first;   // the one that has it, and others follow
	__u8 icmp6;   // its type
	__u8 ipsec;   // protocol of the first IPsec header, 0: none
	__u8 label[3]; // IPv6 flow label
	__u8 pad[2];
	__be32 spi;   // of that header
	__be32 id;    // of a fragment
};

// security notes the SPI of the outermost IPsec header.
ALWAYS_INLINE void security(struct __sk_buff *skb, struct packet *p, __u8 proto, __u32 off)
{
	if (p->ipsec || p->later)
		return;
	// RFC 4303 section 2: ESP begins with it; RFC 4302 section 2: AH has it
	// behind next header, length and reserved bytes.
	if (bpf_skb_load_bytes(skb, off + (proto == IPPROTO_AH ? 4 : 0), &p->spi, sizeof(p->spi)))
		return;
	p->ipsec = proto;
}

struct tag {
	__be16 tpid;
	__be16 tci;
};

// Tags that are in the frame itself. The outermost one may be in the socket buffer
// instead (vlan_present), where the kernel keeps it between the drivers.
struct tags {
	struct tag tag[2];
	__u32 n;
};

// ether_type reads what a frame says that it carries. What the kernel believes counts
// only where there is no Ethernet header: who sends whole frames may have told it
// anything.
ALWAYS_INLINE __be16 ether_type(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	__be16 type;

	if (link_header < ETH_HLEN)
		return skb->protocol;
	if (data + ETH_HLEN <= end)
		return eth->h_proto;
	return bpf_skb_load_bytes(skb, ETH_HLEN - 2, &type, sizeof(type)) ? 0 : type;
}

// start returns the offset of the IP header and its EtherType behind up to two VLAN
// tags in the frame.
ALWAYS_INLINE __u32 start(struct __sk_buff *skb, __be16 *type, struct tags *t)
{
	__u32 off = link_header;

	t->n = 0;
	*type = ether_type(skb);
#pragma unroll
	for (int i = 0; i < 2; i++) {
		__be16 next[2];

		if (*type != bpf_htons(ETH_P_8021Q) && *type != bpf_htons(ETH_P_8021AD))
			break;
		if (bpf_skb_load_bytes(skb, off, next, sizeof(next)))
			break;
		t->tag[i].tpid = *type;
		t->tag[i].tci = next[0];
		t->n = i + 1;
		*type = next[1];
		off += 4;
	}
	return off;
}

ALWAYS_INLINE int parse4(struct __sk_buff *skb, struct packet *p)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, p->l3, &ip, sizeof(ip)))
		return -1;
	if (ip.ihl < 5)
		return -1;
	*(__be32 *)(p->key.src + 12) = ip.saddr;
	*(__be32 *)(p->key.dst + 12) = ip.daddr;
	*(__be16 *)(p->key.src + 10) = 0xffff;
	*(__be16 *)(p->key.dst + 10) = 0xffff;
	p->key.proto = ip.protocol;
	p->tos = ip.tos;
	p->v4 = 1;
	p->l4 = p->l3 + ip.ihl * 4;
	p->later = (ip.frag_off & bpf_htons(0x1fff)) != 0;
	p->first = ip.frag_off & bpf_htons(0x2000) && !p->later;
	p->id = ip.id;
	return 0;
}

ALWAYS_INLINE int parse6(struct __sk_buff *skb, struct packet *p)
{
	struct ipv6hdr ip;
	__u32 off = p->l3 + sizeof(ip);
	__u8 next;

	if (bpf_skb_load_bytes(skb, p->l3, &ip, sizeof(ip)))
		return -1;
	__builtin_memcpy(p->key.src, &ip.saddr, 16);
	__builtin_memcpy(p->key.dst, &ip.daddr, 16);
	p->tos = ip.priority << 4 | ip.flow_lbl[0] >> 4;
	p->hops = ip.hop_limit;
	p->label[0] = ip.flow_lbl[0] & 15;
	p->label[1] = ip.flow_lbl[1];
	p->label[2] = ip.flow_lbl[2];
	next = ip.nexthdr;
	// RFC 8200 section 4.1. More headers than this is no traffic that
	// anybody reserves for.
	for (int i = 0; i < 6; i++) {
		__u8 h[4];
		__u32 len;

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
		    next != IPPROTO_FRAGMENT && next != IPPROTO_AH)
			break;
		if (bpf_skb_load_bytes(skb, off, h, sizeof(h)))
			return -1;
		len = 8 + h[1] * 8;
		if (next == IPPROTO_FRAGMENT) {
			len = 8;
			if ((h[2] << 8 | h[3]) & 0xfff8)
				p->later = 1;
			else
				p->first = h[3] & 1;
			if (bpf_skb_load_bytes(skb, off + 4, &p->id, sizeof(p->id)))
				return -1;
		}
		if (next == IPPROTO_AH) {
			len = (h[1] + 2) * 4;
			security(skb, p, next, off);
		}
		next = h[0];
		off += len;
		if (p->later)
			break;
	}
	p->key.proto = next;
	p->l4 = off;
	if (next == IPPROTO_ICMPV6 && !p->later)
		return bpf_skb_load_bytes(skb, off, &p->icmp6, 1);
	return 0;
}

// ported tells protocols whose header begins with two ports.
ALWAYS_INLINE int ported(__u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_DCCP ||
	       proto == IPPROTO_SCTP || proto == IPPROTO_UDPLITE;
}

ALWAYS_INLINE int parse(struct __sk_buff *skb, __be16 type, struct packet *p)
{
	__be16 ports[2];
	int err;

	if (type == bpf_htons(ETH_P_IP))
		err = parse4(skb, p);
	else if (type == bpf_htons(ETH_P_IPV6))
		err = parse6(skb, p);
	else
		return -1;
	if (err)
		return err;
	if (!p->later && ported(p->key.proto)) {
		if (bpf_skb_load_bytes(skb, p->l4, ports, sizeof(ports)))
			return -1;
		p->key.sport = ports[0];
		p->key.dport = ports[1];
	}
	if (p->key.proto == IPPROTO_ESP || p->key.proto == IPPROTO_AH)
		security(skb, p, p->key.proto, p->l4);
	return 0;
}
