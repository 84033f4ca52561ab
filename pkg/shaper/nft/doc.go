// Package nft makes and keeps the disposable nftables tables that hand packets
// to the queues in user space. It is the only package that knows nf_tables.
//
// The tables carry the kernel's owner flag: they belong to one netlink socket,
// nobody else can change them, and they vanish with the socket, that is with
// the process, however it ends. Their rules are guarded by a set element that
// the daemon must refresh: if it hangs, the rules let everything pass.
//
// Every packet takes the first of these that fits, in chain forward:
//
//	the daemon does not beat          -> accept
//	the packet's mark is ours         -> accept
//	the flow is in cheated_i          -> queue of cheat worker i
//	the flow is in settled            -> accept
//	a policy's prefilter (chain policy) -> queue of first packets
//	nothing                           -> accept
//
// and in chain prerouting RSVP goes to the control queue.
package nft
