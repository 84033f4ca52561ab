package inject

import "github.com/qosproxy/qosproxy/pkg/packet"

// Frames tells how the frames of a flow look on a bridge. The key is that of a TCP
// connection's direction, or of a pair of addresses ([packet.FlowKey.PairKey]). It
// is false if there was none yet. It allocates nothing.
type Frames interface {
	Frame(k *packet.FlowKey, f *packet.Frame) bool
}
