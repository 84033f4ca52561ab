package tc

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"

	"github.com/qosproxy/qosproxy/pkg/shaper/plan"
)

// MissingInterfaceError says that an interface is not there.
type MissingInterfaceError struct {
	Name string
}

func (e *MissingInterfaceError) Error() string {
	return fmt.Sprintf("interface %s does not exist in this network namespace: create it, or correct the name under interfaces", e.Name)
}

// Facts reads what a plan needs to know of an interface.
func (c *Conn) Facts(ctx context.Context, name string) (plan.Facts, error) {
	if err := c.deadline(ctx); err != nil {
		return plan.Facts{}, err
	}
	link, err := c.links.LinkByName(name)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return plan.Facts{}, &MissingInterfaceError{Name: name}
	}
	if err != nil {
		return plan.Facts{}, fmt.Errorf("interface %s: %w", name, explain(err))
	}
	a := link.Attrs()
	f := plan.Facts{Index: a.Index, MTU: uint32(a.MTU)}
	switch a.EncapType {
	case "ether", "loopback":
		f.Header, f.Ethernet = plan.EthernetHeader, a.EncapType == "ether"
	}
	return f, nil
}

// Name returns the name of an interface by its index.
func (c *Conn) Name(ctx context.Context, ifindex int) (string, error) {
	if err := c.deadline(ctx); err != nil {
		return "", err
	}
	link, err := c.links.LinkByIndex(ifindex)
	if err != nil {
		return "", fmt.Errorf("interface number %d: %w", ifindex, explain(err))
	}
	return link.Attrs().Name, nil
}
