package plan

import "strings"

// State is what is, or is to be, in the kernel. Ports are sorted by name,
// classes by handle.
type State struct {
	Ports []Port
}

// Port is the state of one interface.
type Port struct {
	Name    string
	Foreign string // kind of a root qdisc that is neither ours nor a default one; "" if none
	Root    bool   // our HTB is there
	Classes []Class
	Rows    []Row // sorted
	Egress  Program
	Ingress Program
	Learn   Program // at the ingress as well: keeps how frames look
}

// Program is the state of one of our eBPF programs.
type Program struct {
	Attached bool
	// Current is false for a program that an earlier process left behind: it
	// is replaced, in one step, by the one that this process brought.
	Current bool
	Header  uint32  // bytes before the IP header
	Control ClassID // class of control traffic; egress only
	ByDSCP  bool    // the table of code points has rows for it
	PCP     PCP     // egress only
}

// Port returns the port of a name, or an empty one.
func (s State) Port(name string) Port {
	for _, p := range s.Ports {
		if p.Name == name {
			return p
		}
	}
	return Port{Name: name}
}

// Class returns the class of a handle.
func (p Port) Class(id ClassID) (Class, bool) {
	for _, c := range p.Classes {
		if c.ID == id {
			return c, true
		}
	}
	return Class{}, false
}

// String is the state as the commands that would make it.
func (s State) String() string {
	var b strings.Builder
	for _, op := range Diff(State{}, s) {
		b.WriteString(op.String())
		b.WriteByte('\n')
	}
	return b.String()
}
