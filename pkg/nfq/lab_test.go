package nfq_test

import (
	"testing"

	"github.com/qosproxy/qosproxy/integration/rig/routerlab"
)

type lab struct{ *routerlab.Lab }

func newLab(t testing.TB) *lab { return &lab{routerlab.New(t)} }

func must(t testing.TB, err error) { t.Helper(); routerlab.Must(t, err) }

var (
	dstAddr  = routerlab.SinkAddr
	dstAddr6 = routerlab.SinkAddr6
)
