package tc

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// object is a qdisc or class of a dump.
type object struct {
	msg     *nl.TcMsg
	kind    string
	options []byte
	stats   []byte // TCA_STATS2
}

func (c *Conn) objects(ctx context.Context, kind int, reply uint16, ifindex int) ([]object, error) {
	msgs, err := c.dump(ctx, kind, reply, &nl.TcMsg{Family: nl.FAMILY_ALL, Ifindex: int32(ifindex)})
	if err != nil {
		return nil, err
	}
	var list []object
	for _, m := range msgs {
		o := object{msg: nl.DeserializeTcMsg(m)}
		if int(o.msg.Ifindex) != ifindex { // a dump of qdiscs is one of all interfaces
			continue
		}
		attrs, err := nl.ParseRouteAttr(m[o.msg.Len():])
		if err != nil {
			return nil, fmt.Errorf("a message of the kernel: %w", err)
		}
		for _, a := range attrs {
			switch a.Attr.Type {
			case nl.TCA_KIND:
				o.kind = strings.TrimRight(string(a.Value), "\x00")
			case nl.TCA_OPTIONS:
				o.options = a.Value
			case nl.TCA_STATS2:
				o.stats = a.Value
			}
		}
		list = append(list, o)
	}
	return list, nil
}

// Read reads an interface's queueing. Classes are read only where the root is ours.
func (c *Conn) Read(ctx context.Context, name string, ifindex int) (plan.Port, error) {
	p := plan.Port{Name: name}
	qdiscs, err := c.objects(ctx, unix.RTM_GETQDISC, unix.RTM_NEWQDISC, ifindex)
	if err != nil {
		return p, fmt.Errorf("read the queues of %s: %w", name, err)
	}
	leaves := map[plan.ClassID]plan.Leaf{}
	inner := map[plan.ClassID]string{}
	for _, q := range qdiscs {
		switch {
		case q.msg.Parent == handleRoot:
			p.Root = q.ours()
			// The kernel's own default queues have no handle.
			if !p.Root && q.msg.Handle != 0 {
				p.Foreign = q.kind
			}
		case q.msg.Parent&0xffff == 1 && q.msg.Parent>>16 != uint32(plan.RootQdisc>>16):
			inner[plan.ClassID(q.msg.Parent)] = q.kind
		default:
			leaf, err := q.leaf()
			if err != nil {
				return p, fmt.Errorf("read the queues of %s: %w", name, err)
			}
			leaves[plan.ClassID(q.msg.Parent)] = leaf
		}
	}
	if !p.Root {
		return p, nil
	}
	classes, err := c.objects(ctx, unix.RTM_GETTCLASS, unix.RTM_NEWTCLASS, ifindex)
	if err != nil {
		return p, fmt.Errorf("read the classes of %s: %w", name, err)
	}
	for _, o := range classes {
		if o.kind != "htb" {
			continue // a tbf shows one class, too
		}
		cl, err := o.class()
		if err != nil {
			return p, fmt.Errorf("read the classes of %s: %w", name, err)
		}
		cl.Leaf = leaves[cl.ID]
		if kind := inner[cl.ID.Leaf()|1]; kind == "fq_codel" {
			cl.Leaf.Inner = kind
		}
		p.Classes = append(p.Classes, cl)
	}
	slices.SortFunc(p.Classes, func(a, b plan.Class) int { return cmp.Compare(a.ID, b.ID) })
	return p, nil
}

// ours tells our HTB by the number that it carries for us.
func (o object) ours() bool {
	if o.kind != "htb" || o.msg.Handle != uint32(plan.RootQdisc) {
		return false
	}
	value, err := option(o.options, nl.TCA_HTB_INIT, nl.SizeofTcHtbGlob)
	return err == nil && nl.DeserializeTcHtbGlob(value).Rate2Quantum == plan.R2Q
}

func (o object) class() (plan.Class, error) {
	value, err := option(o.options, nl.TCA_HTB_PARMS, nl.SizeofTcHtbCopt)
	if err != nil {
		return plan.Class{}, err
	}
	opt := nl.DeserializeTcHtbCopt(value)
	c := plan.Class{
		ID: plan.ClassID(o.msg.Handle), Parent: plan.ClassID(o.msg.Parent),
		Prio: opt.Prio, Quantum: opt.Quantum,
		Rate: full(o.options, nl.TCA_HTB_RATE64, opt.Rate.Rate), Ceil: full(o.options, nl.TCA_HTB_CEIL64, opt.Ceil.Rate),
		Burst: time.Duration(opt.Buffer) * tick, Cburst: time.Duration(opt.Cbuffer) * tick,
	}
	if o.msg.Parent == handleRoot {
		c.Parent = plan.RootQdisc
	}
	return c, nil
}

func (o object) leaf() (plan.Leaf, error) {
	l := plan.Leaf{Kind: o.kind}
	switch o.kind {
	case "bfifo":
		if len(o.options) < 4 {
			return l, fmt.Errorf("options of bfifo: %w", syscall.EBADMSG)
		}
		l.Limit = binary.NativeEndian.Uint32(o.options)
	case "tbf":
		value, err := option(o.options, nl.TCA_TBF_PARMS, nl.SizeofTcTbfQopt)
		if err != nil {
			return l, err
		}
		opt := nl.DeserializeTcTbfQopt(value)
		l.Limit = opt.Limit
		l.Rate = full(o.options, nl.TCA_TBF_RATE64, opt.Rate.Rate)
		l.Burst = uint32(uint64(opt.Buffer) * uint64(tick) * l.Rate / uint64(time.Second))
	}
	return l, nil
}

// option finds an attribute of at least size bytes among nested ones.
func option(options []byte, attr uint16, size int) ([]byte, error) {
	attrs, err := nl.ParseRouteAttr(options)
	if err != nil {
		return nil, fmt.Errorf("options: %w", err)
	}
	for _, a := range attrs {
		if a.Attr.Type == attr && len(a.Value) >= size {
			return a.Value, nil
		}
	}
	return nil, fmt.Errorf("option %d: %w", attr, syscall.EBADMSG)
}

// full is a rate, from its 64-bit attribute where the 32 bits did not do.
func full(options []byte, attr uint16, rate uint32) uint64 {
	if v, err := option(options, attr, 8); err == nil {
		return binary.NativeEndian.Uint64(v)
	}
	return uint64(rate)
}
