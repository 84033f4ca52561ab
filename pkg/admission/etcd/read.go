package etcd

import (
	"context"
	"errors"

	clientv3 "go.etcd.io/etcd/client/v3"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// chunk is how many pots one transaction reads or writes: etcd takes 128
// operations by default, and a write reads too.
const chunk = 60

// read reads pots at one revision each, as a majority of etcd has them now.
func (l *Ledger) read(ctx context.Context, pots []*pot) error {
	for len(pots) > 0 {
		n := min(len(pots), chunk)
		if err := l.readSome(ctx, pots[:n]); err != nil {
			return err
		}
		pots = pots[n:]
	}
	return nil
}

func (l *Ledger) readSome(ctx context.Context, pots []*pot) error {
	l.mu.Lock()
	cl := l.client
	l.mu.Unlock()
	if cl == nil {
		return errMarker
	}
	ops := []clientv3.Op{clientv3.OpGet(l.keys.marker())}
	for _, p := range pots {
		ops = append(ops, l.keys.reads(p.name))
	}
	resp, err := cl.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reread(resp.Header.Revision, resp.Responses, pots)
}

// reread takes in what a transaction has read: the box's marker, and each pot.
// l.mu is held.
func (l *Ledger) reread(rev int64, got []*pb.ResponseOp, pots []*pot) error {
	if len(got) != 1+len(pots) {
		return errors.New("etcd answered something else than it was asked")
	}
	for i, p := range pots {
		if err := p.read(l.keys, rev, (*clientv3.GetResponse)(got[1+i].GetResponseRange())); err != nil {
			return err
		}
	}
	if m := got[0].GetResponseRange().GetKvs(); l.marker != 0 && (len(m) == 0 || m[0].ModRevision != l.marker) {
		return errMarker
	}
	return nil
}
