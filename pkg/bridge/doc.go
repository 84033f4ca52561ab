// Package bridge joins interfaces on layer 2, so that the box is a bump in the
// wire: it makes a bridge of them, or adopts the one that they are in, and later
// leaves all as it was found.
//
// The box never speaks on such a bridge: it has no address there, asks and answers
// no neighbour, and sends nothing of IPv6, of STP or of IGMP. Frames that an
// 802.1D bridge keeps for itself (STP, LLDP, LACP, EAPOL) pass. IP packets are shown
// to netfilter, by attributes of this bridge alone: other bridges of the machine stay as
// they are. That those in VLANs are shown too is one sysctl for all of them.
//
// What is changed is written down before it is done, with what was there before
// (record.go). So a process that finds the record of one that died takes over where
// that one was, and can undo all of it.
package bridge
