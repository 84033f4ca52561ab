package archtest

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/qosproxy/qosproxy/"

// pure rooms reach no IO, clock device, log or kernel library, not even
// through another package.
var pure = []string{
	"pkg/packet", "pkg/classify", "pkg/dscp", "pkg/tcpcheat", "pkg/intserv", "pkg/admission", "pkg/accounting",
	"pkg/config", "pkg/byhand", "pkg/promise", "pkg/rsvpproxy/wire", "pkg/rsvpproxy/integrity", "pkg/rsvpproxy/softstate", "pkg/rsvpproxy/reliable", "pkg/rsvpproxy/timers", "pkg/rsvpproxy/fair", "pkg/rsvpproxy/diag", "pkg/rsvpproxy/pipe", "pkg/rsvpproxy/gather", "pkg/rsvpproxy/tunnel", "pkg/rsvpproxy/aggregate", "pkg/shaper/plan", "pkg/shed",
}

// impure are packages whose presence among the dependencies shows IO. The
// standard library's own use of os and syscall inside fmt and time is not
// meant, so those are looked for among direct imports only.
var impure = []string{
	"net", "net/http", "log", "log/slog", "go.uber.org/zap", "golang.org/x/sys/unix",
	"github.com/mdlayher/netlink", "github.com/vishvananda/netlink", "github.com/google/nftables", "github.com/cilium/ebpf",
}

// owners are the packages that alone may import a kernel library.
var owners = map[string][]string{
	"github.com/google/nftables":     {"pkg/shaper/nft"},
	"github.com/cilium/ebpf":         {"pkg/shaper/bpf"},
	"github.com/vishvananda/netlink": {"pkg/shaper/tc", "pkg/rsvpproxy/route", "integration"},
	"github.com/vishvananda/netns":   {"integration"},
	"go.etcd.io":                     {"pkg/admission/etcd"},
	"go.etcd.io/etcd/server":         {"pkg/admission/etcd/etcdtest"},
}

// apart are engines that meet only in pkg/daemon.
var apart = map[string][]string{
	"pkg/tcpcheat":  {"pkg/rsvpproxy", "pkg/shaper"},
	"pkg/rsvpproxy": {"pkg/tcpcheat", "pkg/shaper"},
	"pkg/bridge":    {"pkg/rsvpproxy", "pkg/tcpcheat", "pkg/shaper", "pkg/inject", "pkg/nfq"},
}

type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports,Deps", module+"...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) < len(pure) {
		t.Fatalf("go list found %d packages", len(pkgs))
	}
	return pkgs
}

func under(path, dir string) bool {
	return path == module+dir || strings.HasPrefix(path, module+dir+"/")
}

func TestWalls(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range list(t) {
		for _, room := range pure {
			if p.ImportPath != module+room {
				continue
			}
			seen[room] = true
			for _, bad := range impure {
				if slices.Contains(p.Deps, bad) {
					t.Errorf("%s is pure but reaches %s", room, bad)
				}
			}
			for _, bad := range []string{"os", "syscall"} {
				if slices.Contains(p.Imports, bad) {
					t.Errorf("%s is pure but imports %s", room, bad)
				}
			}
		}
		for lib, rooms := range owners {
			allowed := slices.ContainsFunc(rooms, func(r string) bool { return under(p.ImportPath, r) })
			uses := slices.ContainsFunc(p.Imports, func(i string) bool { return i == lib || strings.HasPrefix(i, lib+"/") })
			if uses && !allowed {
				t.Errorf("%s imports %s, which belongs to %v", p.ImportPath, lib, rooms)
			}
		}
		for room, others := range apart {
			for _, o := range others {
				if under(p.ImportPath, room) && slices.ContainsFunc(p.Deps, func(d string) bool { return under(d, o) }) {
					t.Errorf("%s reaches %s: they meet in pkg/daemon", p.ImportPath, o)
				}
			}
		}
		configUsers := []string{"pkg/config", "pkg/daemon", "cmd", "integration", "configs"}
		if slices.Contains(p.Imports, module+"pkg/config") &&
			!slices.ContainsFunc(configUsers, func(r string) bool { return under(p.ImportPath, r) }) {
			t.Errorf("%s imports pkg/config: engines have their own parameters", p.ImportPath)
		}
	}
	for _, room := range pure {
		if !seen[room] {
			t.Errorf("the pure room %s does not exist: correct the list", room)
		}
	}
}
