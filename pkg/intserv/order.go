package intserv

// Order is the outcome of comparing two specs, which are only partially ordered.
type Order uint8

// The outcomes of a comparison.
const (
	Unordered Order = iota
	Less
	Equal
	Greater
)

// String names the order.
func (o Order) String() string {
	return [...]string{"unordered", "less", "equal", "greater"}[o&3]
}

func order(covers, covered bool) Order {
	switch {
	case covers && covered:
		return Equal
	case covers:
		return Greater
	case covered:
		return Less
	default:
		return Unordered
	}
}

// minPacket is min for M, in which zero is no limit.
func minPacket(a, b uint32) uint32 {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// maxPacket is max for M, in which zero is no limit.
func maxPacket(a, b uint32) uint32 {
	if a == 0 || b == 0 {
		return 0
	}
	return max(a, b)
}
