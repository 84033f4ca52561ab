package plan

// Kind is the kind of an operation.
type Kind uint8

// The kinds of operations, in the order in which Diff uses them.
const (
	DetachLearn Kind = iota + 1
	DetachIngress
	DetachEgress
	DelRoot
	AddRoot
	AddClass
	ChangeClass
	AddLeaf
	ChangeLeaf
	DelLeaf
	PutRow        // make, or change in place
	AttachEgress  // or replace in place
	AttachIngress // or replace in place
	AttachLearn   // or replace in place
	DelRow
	DelClass
)

// Last tells whether the operation takes away what packets may still be led to by
// the treatments in force: it has to wait until these have changed.
func (k Kind) Last() bool { return k == DelRow || k == DelClass }

// Op is one step on one interface. Each is one or two requests to the kernel,
// which does it or refuses it whole.
type Op struct {
	Kind      Kind
	Interface string
	Class     Class   // of class and leaf operations: as it is to be
	Program   Program // of attach operations
	Row       Row     // of row operations
}

// Diff computes the operations that lead from have to want. Ports of have that
// want does not name lose what is ours. Pooled classes that want does not name
// are left for later use: they are empty, and deleting one is expensive.
func Diff(have, want State) []Op {
	var ops []Op
	for _, h := range have.Ports {
		if !want.has(h.Name) {
			ops = append(ops, remove(h)...)
		}
	}
	for _, w := range want.Ports {
		ops = append(ops, diffPort(have.Port(w.Name), w)...)
	}
	return ops
}

func (s State) has(name string) bool {
	for _, p := range s.Ports {
		if p.Name == name {
			return true
		}
	}
	return false
}

func remove(h Port) []Op {
	return diffPort(h, Port{Name: h.Name})
}

func diffPort(h, w Port) []Op {
	var ops []Op
	add := func(kind Kind, c Class, p Program) {
		ops = append(ops, Op{Kind: kind, Interface: w.Name, Class: c, Program: p})
	}
	// Programs go before the classes that they name, and come after them.
	if h.Learn.Attached && !w.Learn.Attached {
		add(DetachLearn, Class{}, Program{})
	}
	if h.Ingress.Attached && !w.Ingress.Attached {
		add(DetachIngress, Class{}, Program{})
	}
	if h.Egress.Attached && !w.Egress.Attached {
		add(DetachEgress, Class{}, Program{})
	}
	if h.Root != w.Root {
		h.Classes = nil
	}
	switch {
	case h.Root && !w.Root:
		add(DelRoot, Class{}, Program{})
	case w.Root && !h.Root:
		add(AddRoot, Class{}, Program{})
	}
	ops = append(ops, putClasses(h, w)...)
	ops = append(ops, putRows(h, w)...)
	if w.Egress.Attached && h.Egress != w.Egress {
		add(AttachEgress, Class{}, w.Egress)
	}
	if w.Ingress.Attached && h.Ingress != w.Ingress {
		add(AttachIngress, Class{}, w.Ingress)
	}
	if w.Learn.Attached && h.Learn != w.Learn {
		add(AttachLearn, Class{}, w.Learn)
	}
	for _, r := range h.Rows {
		if _, ok := w.row(r); !ok {
			ops = append(ops, Op{Kind: DelRow, Interface: w.Name, Row: r})
		}
	}
	for _, c := range h.Classes {
		if _, ok := w.Class(c.ID); !ok && !c.ID.Pooled() && !c.ID.SharedBy() {
			add(DelClass, c, Program{})
		}
	}
	return ops
}

// DiffLevels is Diff for the rows and the classes of service levels alone.
func DiffLevels(have, want Port) []Op {
	have.Root = want.Root
	have.Egress, have.Ingress, have.Learn = Program{}, Program{}, Program{}
	want.Egress, want.Ingress, want.Learn = Program{}, Program{}, Program{}
	return diffPort(have, want)
}

// putRows are the rows to be put, after the classes that they name.
func putRows(h, w Port) []Op {
	var ops []Op
	for _, r := range w.Rows {
		if was, ok := h.row(r); !ok || was != r {
			ops = append(ops, Op{Kind: PutRow, Interface: w.Name, Row: r})
		}
	}
	return ops
}

// putClasses are the classes to be made or changed.
func putClasses(h, w Port) []Op {
	var ops []Op
	for _, c := range w.Classes {
		was, ok := h.Class(c.ID)
		ops = append(ops, DiffClass(w.Name, was, ok, c)...)
	}
	return ops
}

// DiffClass computes what makes one class from what was there before, if it
// was there.
func DiffClass(itf string, was Class, there bool, c Class) []Op {
	var ops []Op
	bare := func(c Class) Class { c.Leaf = Leaf{}; return c }
	switch {
	case !there:
		ops = append(ops, Op{Kind: AddClass, Interface: itf, Class: c})
	case bare(was) != bare(c):
		ops = append(ops, Op{Kind: ChangeClass, Interface: itf, Class: c})
	}
	switch {
	case was.Leaf == c.Leaf:
	case was.Leaf == Leaf{}:
		ops = append(ops, Op{Kind: AddLeaf, Interface: itf, Class: c})
	case was.Leaf.Kind == c.Leaf.Kind && was.Leaf.Inner == c.Leaf.Inner:
		ops = append(ops, Op{Kind: ChangeLeaf, Interface: itf, Class: c})
	default:
		ops = append(ops, Op{Kind: DelLeaf, Interface: itf, Class: was})
		if c.Leaf != (Leaf{}) {
			ops = append(ops, Op{Kind: AddLeaf, Interface: itf, Class: c})
		}
	}
	return ops
}
