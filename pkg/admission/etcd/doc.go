// Package etcd is a ledger that several boxes share: a bandwidth broker in the
// sense of section 5.3 of the IntServ over DiffServ framework (RFC 2998), whose
// oracle is an etcd cluster.
//
// What is shared are sums. Each box keeps its own entries in its memory, and of
// each shared account the sum of them in etcd, under a lease that lives as long
// as the box:
//
//	PREFIX/boxes/BOX          which process speaks for the box
//	PREFIX/sums/ACCOUNT/BOX   what the box holds of the account
//	PREFIX/guard/ACCOUNT      written with every increase of any box's sum
//
// An increase is a transaction: it reads all boxes' sums and the guard at one
// revision, and writes its own sum and the guard only if the guard is still the
// one that was read. Others can only have decreased theirs meanwhile, so no
// schedule of boxes grants more than the account has. Every write of a box
// compares the revision of its own key too: what was sent, given up and then
// arrives late changes nothing.
//
// When the box dies its lease ends, and its sums with it. When it lives but
// cannot reach etcd for longer than that, its reservations stay and it registers
// them anew afterwards, whatever the limit is. This, a quota for the time without
// etcd, and boxes that do not agree on a limit are the only ways in which an
// account can hold more than it has, and each is counted and told.
package etcd
