// Package etcd is a ledger that several boxes share: a bandwidth broker in the
// sense of RFC 2998 section 4.3, whose oracle is an etcd cluster.
//
// What is shared are sums. Each box keeps its own entries in its memory, and of
// each shared account the sum of them in etcd, under a lease that lives as long
// as the box:
//
//	PREFIX/boxes/BOX          which process speaks for the box
//	PREFIX/sums/ACCOUNT/BOX   what the box holds of the account, and what it asks for
//
// To grant something a box writes what it would then hold as asked for, and reads
// all boxes' lines in the same transaction. If what all of them ask for is within
// the limit at that revision, it is granted, and the next write tells it as held;
// else the asking is taken back. Writes have an order: of two boxes that want the
// last of an account, one has the other's asking in what it reads. So no schedule
// grants more than the account has, nobody waits for others, and a decision takes
// one exchange however many boxes want the same. What is given back needs no
// decision and is told a moment later.
//
// Every write of a box compares the revision of its own line, so that what was
// sent, given up and then arrives late changes nothing.
//
// When the box dies its lease ends, and its lines with it. When it lives but
// cannot reach etcd for longer than that, its reservations stay and it registers
// them anew afterwards, whatever the limit is. This, a quota for the time without
// etcd, and boxes that do not agree on a limit are the only ways in which an
// account can hold more than it has, and each is counted and told.
package etcd
