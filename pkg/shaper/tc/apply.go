package tc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

const (
	tick          = 64 * time.Nanosecond // PSCHED_SHIFT is 6
	handleRoot    = 0xffffffff           // TC_H_ROOT
	linkEthernet  = 1                    // TC_LINKLAYER_ETHERNET: the kernel then needs no rate table
	htbVersion    = 3
	createAnew    = unix.NLM_F_CREATE | unix.NLM_F_EXCL
	tbfBurst      = 6 // TCA_TBF_BURST
	maxRate32     = 1<<32 - 1
	defaultMinors = 0xffff
)

// Apply does one operation on classes or queues.
func (c *Conn) Apply(ctx context.Context, ifindex int, op plan.Op) error {
	err := c.apply(ctx, ifindex, op)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOENT) && op.Kind == plan.AddRoot:
		return fmt.Errorf("%s: %w: HTB (CONFIG_NET_SCH_HTB, module sch_htb) is needed where an interface has a capacity: %w", op, plan.ErrKernel, err)
	case errors.Is(err, unix.ENOENT) && op.Kind == plan.AddLeaf && op.Class.Leaf.Kind == "tbf":
		return fmt.Errorf("%s: %w: TBF (CONFIG_NET_SCH_TBF, module sch_tbf) is needed where an interface has a capacity: %w", op, plan.ErrKernel, err)
	}
	return fmt.Errorf("%s: %w", op, err)
}

func (c *Conn) apply(ctx context.Context, ifindex int, op plan.Op) error {
	cl := op.Class
	at := func(handle, parent uint32) *nl.TcMsg {
		return &nl.TcMsg{Family: nl.FAMILY_ALL, Ifindex: int32(ifindex), Handle: handle, Parent: parent}
	}
	class := at(uint32(cl.ID), uint32(cl.Parent))
	leaf := at(uint32(cl.ID.Leaf()), uint32(cl.ID))
	switch op.Kind {
	case plan.AddRoot:
		return c.addRoot(ctx, ifindex, at(uint32(plan.RootQdisc), handleRoot))
	case plan.DelRoot:
		return c.delRoot(ctx, ifindex, at(uint32(plan.RootQdisc), handleRoot))
	case plan.AddClass:
		return c.do(ctx, unix.RTM_NEWTCLASS, createAnew, class, kind("htb"), htbClass(cl))
	case plan.ChangeClass:
		return c.do(ctx, unix.RTM_NEWTCLASS, 0, class, kind("htb"), htbClass(cl))
	case plan.DelClass:
		return c.do(ctx, unix.RTM_DELTCLASS, 0, class)
	case plan.ChangeLeaf:
		return c.do(ctx, unix.RTM_NEWQDISC, 0, leaf, kind(cl.Leaf.Kind), leafOptions(cl.Leaf))
	case plan.DelLeaf:
		return c.do(ctx, unix.RTM_DELQDISC, 0, leaf)
	case plan.AddLeaf:
		if err := c.do(ctx, unix.RTM_NEWQDISC, createAnew, leaf, kind(cl.Leaf.Kind), leafOptions(cl.Leaf)); err != nil {
			return err
		}
		if cl.Leaf.Inner == "" {
			return nil
		}
		return c.do(ctx, unix.RTM_NEWQDISC, createAnew, at(0, uint32(cl.ID.Leaf()|1)), kind(cl.Leaf.Inner))
	default:
		return fmt.Errorf("operation %d is not one on queues", op.Kind)
	}
}

func kind(name string) *nl.RtAttr {
	return nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated(name))
}

func htbRoot() *nl.RtAttr {
	glob := nl.TcHtbGlob{Version: htbVersion, Rate2Quantum: plan.R2Q, Defcls: uint32(plan.BestEffort) & defaultMinors}
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_HTB_INIT, glob.Serialize())
	return options
}

func htbClass(c plan.Class) *nl.RtAttr {
	opt := nl.TcHtbCopt{
		Rate: rateSpec(c.Rate), Ceil: rateSpec(c.Ceil),
		Buffer: uint32(c.Burst / tick), Cbuffer: uint32(c.Cburst / tick),
		Quantum: c.Quantum, Prio: c.Prio,
	}
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_HTB_PARMS, opt.Serialize())
	rate64(options, nl.TCA_HTB_RATE64, c.Rate)
	rate64(options, nl.TCA_HTB_CEIL64, c.Ceil)
	return options
}

func leafOptions(l plan.Leaf) *nl.RtAttr {
	if l.Kind != "tbf" { // bfifo: the number stands alone
		return nl.NewRtAttr(nl.TCA_OPTIONS, binary.NativeEndian.AppendUint32(nil, l.Limit))
	}
	opt := nl.TcTbfQopt{Rate: rateSpec(l.Rate), Limit: l.Limit}
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_TBF_PARMS, opt.Serialize())
	options.AddRtAttr(tbfBurst, nl.Uint32Attr(l.Burst))
	rate64(options, nl.TCA_TBF_RATE64, l.Rate)
	return options
}

func rateSpec(rate uint64) nl.TcRateSpec {
	return nl.TcRateSpec{Linklayer: linkEthernet, Rate: uint32(min(rate, maxRate32))}
}

// rate64 adds a rate in full where 32 bits of bytes/s (34 Gbit/s) cannot hold it.
func rate64(options *nl.RtAttr, attr int, rate uint64) {
	if rate > maxRate32 {
		options.AddRtAttr(attr, nl.Uint64Attr(rate))
	}
}
