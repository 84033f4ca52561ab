package reliable

// Counters are the figures of a [Layer] since it was made.
type Counters struct {
	Triggers       uint64 // messages sent for the first time with a MESSAGE_ID
	Retransmitted  uint64
	GivenUp        uint64 // never acknowledged
	Plain          uint64 // messages sent without a MESSAGE_ID
	Probes         uint64 // of these: PATH and PathTear to those who may not listen
	Full           uint64 // refreshes sent whole
	Suppressed     uint64 // refreshes left to retransmission or to the next Srefresh
	SummariesOut   uint64 // Srefresh messages
	SummarizedOut  uint64 // identifiers in them
	SummariesIn    uint64
	SummarizedIn   uint64
	NacksOut       uint64
	NacksIn        uint64
	AcksOut        uint64
	AcksIn         uint64
	AcksUnknown    uint64 // for nothing that is waited for
	AckMessages    uint64 // Ack messages sent; the other acknowledgments were carried
	BundlesOut     uint64
	BundledOut     uint64 // messages in them
	BundlesIn      uint64
	BundledIn      uint64
	OutOfOrder     uint64 // dropped
	Duplicates     uint64 // dropped; acknowledged again
	RefusedBy      uint64 // errors 13 that told of a neighbour without MESSAGE_ID
	Restarts       uint64 // neighbours that came with another epoch
	Asked          uint64 // neighbours that were asked for what they had told an earlier process
	LimitNeighbors uint64
	LimitSent      uint64
	LimitReceived  uint64
	LimitAcks      uint64

	// What is held now.
	Neighbors, Capable, Sent, Received int
}

// Counters returns the figures of l.
func (l *Layer) Counters() Counters {
	c := l.count
	c.Neighbors, c.Sent, c.Received = len(l.neighbors), len(l.byID), l.received.All()
	for _, nb := range l.neighbors {
		if nb.capable {
			c.Capable++
		}
	}
	return c
}
