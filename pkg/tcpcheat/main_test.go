package tcpcheat

import (
	"os"
	"runtime/debug"
	"testing"
)

// Simulations make garbage at each packet and keep next to nothing: they need
// not collect it as often as the runtime does by itself.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}
