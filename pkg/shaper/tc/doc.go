// Package tc reads and sets queueing disciplines and classes over rtnetlink.
// It is the only importer of that part of vishvananda/netlink, and uses its
// messages and sockets, not its tc types: those send rate tables that no kernel
// reads any more, computed with 32-bit rates.
package tc
