// Package wire joins two interfaces of one namespace by an emulated link, as a
// layer-2 cable with the properties that package emulator gives it. It is the
// thin shell around that core: packet sockets, a clock, a thread per direction
// and pcap taps.
//
// Frames larger than 2048 bytes are counted and dropped, so the senders behind
// both interfaces must have their segmentation and checksum offloads off
// (netns.End.Wire): queue, loss and delay then apply to the packets that a
// real cable would carry.
package wire
