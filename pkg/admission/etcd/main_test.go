package etcd

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/qosproxy/qosproxy/pkg/admission/etcd/etcdtest"
)

// atOnce is how many tests run side by side: they wait, for leases above all. The
// go command's default is the number of processors.
const atOnce = "8"

func TestMain(m *testing.M) {
	etcdtest.Member()
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", atOnce); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
