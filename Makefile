# qosproxy: make build | test | soak | lint | bench | demo | scale | fuzz | generate
GO       ?= go
FUZZTIME ?= 2s
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -X main.version=$(VERSION)

.PHONY: all build test unit integration lint fuzz fuzz-short bench bench-once demo soak scale generate generate-check tidy-check clean

all: build

build:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/qosproxy ./cmd/qosproxy

# Everything that must hold before a change lands. It should be under 15 minutes on 2 cores; see docs/testing.md.
test: build lint tidy-check generate-check unit integration fuzz-short bench-once

# The rig's namespaces and timings do not bear a second package's load beside
# them, so packages that need root run one at a time.
ROOTPKGS  = ./integration/... ./pkg/nfq ./pkg/inject ./pkg/shaper/... ./pkg/daemon/... 
UNITPKGS  = $(shell $(GO) list ./... | grep -vE '/(integration|pkg/nfq|pkg/inject|pkg/shaper|pkg/daemon)(/|$$)')

unit:
	$(GO) test -race -shuffle=on -timeout 10m $(UNITPKGS)

integration: build
	$(GO) test -race -shuffle=on -p 1 -timeout 14m $(ROOTPKGS)

# The RSVP scenarios of the rig with longer periods and more repetitions; root,
# some twenty minutes. docs/testing.md says which.
soak: build
	QOSPROXY_REQUIRE_ROOT=1 QOSPROXY_SOAK=1 $(GO) test -count 1 -v -timeout 60m -run '^Test(Chain|Neighbour|Scapy|Twenty)' ./integration

lint:
	$(GO) run $(GOLANGCI) run ./...

tidy-check:
	$(GO) mod tidy -diff

# The eBPF object in the tree must be the one that its source makes.
generate:
	$(GO) generate ./...

generate-check:
	./tools/generate-check.sh

# Each decoder for FUZZTIME; a crasher is written to the package's testdata.
fuzz-short:
	FUZZTIME=$(FUZZTIME) ./tools/fuzz.sh

fuzz:
	FUZZTIME=5m ./tools/fuzz.sh

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./...

bench-once:
	$(GO) test -run '^$$' -bench . -benchtime 1x -p 1 ./...

# RSVP with 100,000 sessions: see docs/performance.md. Needs root; some ten minutes.
scale:
	$(GO) build -trimpath -o bin/scale ./integration/scale
	bin/scale

demo: build
	bin/qosproxy demo asymmetric

clean:
	rm -rf bin
