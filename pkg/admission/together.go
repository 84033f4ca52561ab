package admission

// sharer is a [Ledger] from which other boxes take what this one gives back.
type sharer interface {
	// Together keeps from them what is given back until end is called.
	Together() (end func())
	// Prepare asks for what a Commit of the same will need, so that it need not
	// wait. It promises nothing. What is not committed before the end of Together
	// is given back.
	Prepare(e Entry, limits []int64)
}

// Together has what is given back until end is called stay this box's, where
// several share an account: it may have to be put back, when what takes its place
// cannot be done.
func (c *Control) Together() (end func()) {
	if s, ok := c.ledger.(sharer); ok {
		return s.Together()
	}
	return func() {}
}

// Prepare has the ledger get what a request will need from where others keep it,
// which may take a while. It decides nothing; [Control.Admit] does, and then has
// not to wait. What it will refuse anyway nobody is asked for. It is for between
// Together and its end.
func (c *Control) Prepare(r Request) {
	s, ok := c.ledger.(sharer)
	if !ok {
		return
	}
	old, had, err := c.ledger.Entry(r.ID)
	if err != nil {
		return // so will Admit find
	}
	r, link, _, no := c.entitled(r, old, had)
	if no != nil {
		return
	}
	e, claims := c.rules().entry(link, r)
	s.Prepare(e, limitsOf(claims))
}
