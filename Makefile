# qosproxy: make build | test | soak | lint | bench | demo | scale | qosbench | reliability | paper | compare | fuzz | generate
GO       ?= go
FUZZTIME ?= 2s
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -X main.version=$(VERSION)

.PHONY: all build test unit unit-race unit-long idle integration lint fuzz fuzz-short bench bench-once bench-once-unit bench-once-root demo soak scale qosbench reliability paper compare generate generate-check tidy-check clean

all: build

build:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/qosproxy ./cmd/qosproxy

# Everything that must hold before a change lands: 15 to 16 minutes on 2 cores; see
# docs/testing.md. The scenarios of the rig wait for most of their time. What
# only computes has that time, and hardly any that a scenario wants: IDLE is the
# scheduler's class for it. A test that fails beside all that is looked at again by
# itself at the end (tools/again.sh).
test: build tidy-check generate-check
	rm -f bin/again
	AGAIN=bin/again $(MAKE) --no-print-directory -j 2 integration idle
	$(MAKE) --no-print-directory bench-once-root
	./tools/again.sh run bin/again

IDLE = $(shell chrt -i 0 true 2>/dev/null && echo chrt -i 0 || echo nice -n 19)
idle:
	$(IDLE) $(MAKE) --no-print-directory unit-race lint unit-long fuzz-short bench-once-unit

# Packages that need root run one at a time, but for those that tools/root.sh
# names. In ./integration some scenarios run side by side.
ROOTED    = /(integration|pkg/bridge|pkg/nfq|pkg/inject|pkg/shaper|pkg/daemon)(/|$$)
ROOTPKGS  = ./integration/... ./pkg/bridge ./pkg/nfq ./pkg/inject ./pkg/shaper/... ./pkg/daemon/... 
UNITPKGS  = $(shell $(GO) list ./... | grep -vE '$(ROOTED)')
# Those with a short form of some test, and those with a benchmark.
LONGPKGS  = $(shell grep -rl --include='*_test.go' 'testing\.Short()' pkg cmd | xargs -n 1 dirname | sort -u | sed 's|^|./|')
BENCHPKGS = $(shell grep -rl --include='*_test.go' '^func Benchmark' . | xargs -n 1 dirname | sort -u)

# The race detector makes simulations in virtual time twenty times slower, so it
# sees their short form; the long one, of the same tests, is run without it.
unit: unit-race unit-long

unit-race:
	./tools/unit.sh -race -short -shuffle=on -timeout 20m $(UNITPKGS)

# Beside the rig's scenarios it may take three times as long as alone.
unit-long:
	./tools/unit.sh -shuffle=on -timeout 20m $(LONGPKGS)

integration: build
	./tools/root.sh $(ROOTPKGS)

# The simulations' long form with the race detector, and scenarios of the rig with
# longer periods, more repetitions and more combinations; root, more than an hour.
# docs/testing.md says which; those of docs/reliability.md are in `make reliability`.
soak: build
	QOSPROXY_SOAK=1 $(GO) test -race -count 1 -timeout 30m $(LONGPKGS) ./pkg/admission/etcd
	QOSPROXY_REQUIRE_ROOT=1 QOSPROXY_SOAK=1 $(GO) test -count 1 -v -timeout 90m -run '^Test(Bridge$$|Chain|CheatedOverBridges|Deaf|Echo|EFModels|Fill|GuaranteedVoice|Isolation|Microflow|Narrow|Neighbour|OnBridges|Pace|ReceiverAnswers|Reduce|Restart|Scapy|Stacks|TransparentHops|Twenty)' -p 1 ./integration ./integration/compare ./integration/demo

lint:
	$(GO) run $(GOLANGCI) run ./...

tidy-check:
	$(GO) mod tidy -diff

# The eBPF object in the tree must be the one that its source makes.
generate:
	$(GO) generate ./...

generate-check:
	./tools/generate-check.sh

# Each decoder for FUZZTIME, one for each processor at once; a crasher is written to the package's testdata.
fuzz-short:
	FUZZTIME=$(FUZZTIME) ./tools/fuzz.sh

fuzz:
	FUZZTIME=5m ./tools/fuzz.sh

# The go command builds several at once, and measures them one by one. The delay
# bound is a scenario of the rig; root.
bench:
	$(GO) test -run '^$$' -bench . -benchmem $(BENCHPKGS)
	QOSPROXY_REQUIRE_ROOT=1 QOSPROXY_FIGURES=1 $(GO) test -count 1 -timeout 10m -v -run '^TestFigureDelayBound$$' ./integration

bench-once: bench-once-unit bench-once-root

ONCE = $(GO) test -run '^$$' -bench . -benchtime 1x
bench-once-unit:
	$(ONCE) $(shell printf '%s\n' $(BENCHPKGS) | grep -vE '$(ROOTED)')

bench-once-root:
	$(ONCE) $(shell printf '%s\n' $(BENCHPKGS) | grep -E '$(ROOTED)')

# RSVP with 100,000 sessions: see docs/performance.md. Needs root; some five minutes.
scale:
	$(GO) build -trimpath -o bin/scale ./integration/scale
	bin/scale

# Reservations in the kernel, admission and the delay bound, held against targets: see
# docs/performance.md. Needs root and a machine that does nothing else; some five
# minutes. Exit 1 if a target is missed.
qosbench:
	QOSPROXY_REQUIRE_ROOT=1 QOSPROXY_FIGURES=1 $(GO) test -count 1 -timeout 20m -v -run '^TestFigure' -bench '^Benchmark(Figure|Decide)' ./pkg/shaper ./pkg/admission/... ./integration

# All that docs/reliability.md names: what happens when a box is killed, twenty times
# over, when it is stopped or hangs, and when it is restarted, reloaded or overloaded.
# Needs root; some twelve minutes.
RELIABILITY = Kill$$|KilledUnderLoad|TransparentBoxComesBack|KeepMarks|CrashResets|NobodyComesBack|Hang|StoppedBox|DrainTimeout
SOAKED = StopBreaks|StopLeaves|BridgeStopLeaves|KeepIsAdopted|RestartAdopts|ReloadLoses|Overload|CrashHeals
reliability: build
	$(GO) test -count 1 -v ./pkg/watchdog ./pkg/shed ./pkg/promise
	$(GO) test -count 1 -v -run '^Test(Crash|LeftFlows|Promise|Recalled|RecordAllocates|RollCall|WholeRecords)' -bench '^BenchmarkPromisePut$$' ./pkg/daemon ./pkg/tcpcheat ./pkg/tcpcheat/netstack
	QOSPROXY_REQUIRE_ROOT=1 QOSPROXY_TRIALS=20 $(GO) test -count 1 -timeout 60m -v -run '^Test($(RELIABILITY))' ./integration
	QOSPROXY_REQUIRE_ROOT=1 QOSPROXY_SOAK=1 $(GO) test -count 1 -timeout 60m -v -run '^Test($(SOAKED))' ./integration

# What a narrow way back costs, and what the boxes do about it: see docs/tcp.md.
# Needs root; some six minutes.
compare: build
	$(GO) build -trimpath -o bin/compare ./integration/compare
	bin/compare

# The paper's experiment, and what cheating does to small exchanges: see
# docs/tcp.md. Needs root; some ten minutes.
paper: build
	$(GO) build -trimpath -o bin/paper ./integration/paper
	bin/paper -plots docs/img
	bin/paper -latency

demo: build
	bin/qosproxy demo asymmetric

clean:
	rm -rf bin
