package integration

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/qosproxy/qosproxy/pkg/admission/etcd/etcdtest"
)

// program is the program under test, built once for all scenarios.
var program string

// atOnce is how many scenarios run side by side, of those that mostly wait for
// soft state: three of them keep half a processor busy, of two.
// Each has its own namespaces, directory and sockets. Without t.Parallel, and
// before the others, run those that look at what is left on the whole machine,
// measure delays and rates, or load the machine with many packets or connections.
const atOnce = "5"

func TestMain(m *testing.M) {
	etcdtest.Member()
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given { // the go command's default is the number of processors
		if err := flag.Set("test.parallel", atOnce); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run() // every test skips, or fails where root is required
	}
	dir, err := os.MkdirTemp("", "qosproxy-bin")
	if err == nil {
		// Another user runs the program too, to be told that it may not.
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program = filepath.Join(dir, "qosproxy")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	args := []string{"build", "-o", program}
	if os.Getenv("QOSPROXY_RACE") == "1" { // a box that looks for data races, too slow for some scenarios' rates
		args = append(args, "-race")
	}
	build := exec.CommandContext(ctx, "go", append(args, "../cmd/qosproxy")...)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building qosproxy: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}
