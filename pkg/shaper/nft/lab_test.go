package nft

import (
	"testing"

	"github.com/qosproxy/qosproxy/integration/rig/routerlab"
)

type lab struct{ *routerlab.Lab }

func newLab(t testing.TB) *lab { return &lab{routerlab.New(t)} }

func must(t testing.TB, err error) { t.Helper(); routerlab.Must(t, err) }

var (
	srcAddr  = routerlab.SourceAddr
	dstAddr  = routerlab.SinkAddr
	srcAddr6 = routerlab.SourceAddr6
	dstAddr6 = routerlab.SinkAddr6
)
