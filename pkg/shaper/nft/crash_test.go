package nft

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"testing"
)

// TestMain is also the daemon that TestTablesDieWithTheProcess kills.
func TestMain(m *testing.M) {
	if os.Getenv("QOSPROXY_TEST_HOLD_TABLE") == "" {
		os.Exit(m.Run())
	}
	if _, err := Open(testQueue); err != nil {
		_, _ = os.Stdout.WriteString(err.Error() + "\n") // the parent fails by it
		os.Exit(1)
	}
	_, _ = os.Stdout.WriteString("open\n")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent is gone
}

func TestTablesDieWithTheProcess(t *testing.T) {
	l := newLab(t)
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "QOSPROXY_TEST_HOLD_TABLE=1")
	stdin, err := child.StdinPipe()
	must(t, err)
	defer func() { _ = stdin.Close() }() // held so that the child waits
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, l.Box.Do(child.Start)) // a process starts in its thread's namespace
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "open\n" || len(l.tables(t)) != 2 {
		t.Errorf("%v, %q, tables %v", err, line, l.tables(t))
	}
	must(t, child.Process.Kill())
	if err := child.Wait(); err == nil {
		t.Error("killed, and yet ended well")
	}
	waitFor(t, func() bool { return len(l.tables(t)) == 0 })
}
