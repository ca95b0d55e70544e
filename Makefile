# `make` alone lists the targets. They fetch what they need, except Go (its version is in
# go.mod).

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)

GOLANGCI_VERSION := 2.15.0

.PHONY: help build demo test bench fuzz chaos lint format linter promtool generate clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile | expand -t 18

# CGO is off so that the binary is static and runs on an image with nothing else.
build: ## build ./relay
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)' -o relay ./cmd/relay

demo: build ## show the whole relay at work, without any set-up
	./relay demo

# gotestsum names skipped and failed tests at the end. withpostgres (deploy/testenv) gives
# all packages one PostgreSQL. Vetting is lint's.
# - Simulations of hours run without the race detector: with it they take minutes.
# - The suite of faults runs last: its many processes would slow the other tests down.
# - Temporary files are in memory where programs can run there: on a disk, one test's
#   database holds up the commits of all others for seconds.
# - The programs that tests start have no race detector: most of a slow machine's time would
#   go to it, and the suite of faults would fail by time. `make chaos RACE=-race` has it.
# - SQLite, translated from C, runs without the race detector, which makes it six times as
#   slow and finds no race of ours in it. Lint has the same flags, to share what is compiled.
NO_RACE_IN_SQLITE = $$(go env GOFLAGS) -gcflags=modernc.org/sqlite/lib=-race=false
GOTESTSUM = .bin/gotestsum --format-hide-empty-pkg -- -vet=off
IN_MEMORY = t=$$(mktemp /dev/shm/oprelay.XXXXXX 2>/dev/null) && echo '\#!/bin/sh' >$$t && chmod +x $$t && $$t 2>/dev/null && echo /dev/shm; rm -f $$t
test: ## run all tests, race detector on; installs redis-server and PostgreSQL if it can
	deploy/install-test-servers.sh
	go build -o .bin/ ./deploy/testenv/withpostgres
	go build -modfile=.tools/go.mod -o .bin/ gotest.tools/gotestsum
	memory=$$($(IN_MEMORY)); export TMPDIR=$${memory:-$${TMPDIR:-/tmp}} GOFLAGS="$(NO_RACE_IN_SQLITE)"; \
	$(GOTESTSUM) -run '^TestSimulated' ./storage && \
	.bin/withpostgres $(GOTESTSUM) -race -timeout 20m $$(go list ./... | grep -v '/chaos$$') && \
	.bin/withpostgres $(GOTESTSUM) -timeout 20m ./deploy/chaos

# BENCH="-only burst,latency -runs 1" measures less, "-only million -watches 1000000" more.
BENCH ?=
bench: ## measure the relay against what limits it, under 10 minutes
	deploy/install-test-servers.sh
	go run ./cmd/bench $(BENCH)

# Without the race detector, like the program that users run, unless RACE=-race. The suites
# are mostly idle, so several run at once, except those that measure delays.
RACE ?=
chaos: ## break everything under load, up to 10 minutes, and print what was lost
	deploy/install-test-servers.sh
	go build -o .bin/ ./deploy/testenv/withpostgres
	GOFLAGS="$(NO_RACE_IN_SQLITE)" go test -c $(RACE) -o .bin/chaos ./deploy/chaos
	memory=$$($(IN_MEMORY)); export TMPDIR=$${memory:-$${TMPDIR:-/tmp}}; \
	.bin/withpostgres .bin/chaos -long -test.parallel 5 -test.timeout 11m

# Findings go to the package's testdata/fuzz, and are tests from then on.
FUZZTIME ?= 30s
fuzz: ## run each fuzz target for FUZZTIME (30s), one after the other
	@for package in $$(go list ./...); do \
		targets=$$(go test -list '^Fuzz' $$package) || exit 1; \
		for target in $$(echo "$$targets" | grep '^Fuzz'); do \
			echo "== $$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
		done; \
	done

# golangci-lint runs govet, too. govulncheck tells the date of its database only if it has
# reached it.
VULNDB ?= https://vuln.go.dev
lint: linter promtool ## golangci-lint, govulncheck, alert rules, syntax of the shell scripts
	GOFLAGS="$(NO_RACE_IN_SQLITE) -race" .bin/golangci-lint run ./...
	go build -modfile=.tools/go.mod -o .bin/ golang.org/x/vuln/cmd/govulncheck
	@about=$$(.bin/govulncheck -db $(VULNDB) -version) || exit 1; \
	case $$about in \
	*'DB updated'*) \
		echo "$$about"; \
		.bin/govulncheck -db $(VULNDB) -test ./... && .bin/govulncheck -db $(VULNDB) -C .tools tool ;; \
	*) echo 'NOT CHECKED for known vulnerabilities: $(VULNDB) cannot be reached' ;; \
	esac
	.bin/promtool check rules --lint=all --lint-fatal deploy/prometheus/alerts.yml
	.bin/promtool test rules deploy/prometheus/alerts_test.yml
	for script in deploy/*.sh deploy/examples/*.sh; do sh -n $$script || exit 1; done
	bash -n .ci/run

format: linter ## format the Go code
	.bin/golangci-lint fmt ./...

# Built from source if it is absent or of another version, which takes minutes.
linter:
	@test "$$(.bin/golangci-lint version --short 2>/dev/null)" = $(GOLANGCI_VERSION) || \
		GOBIN=$(CURDIR)/.bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$(GOLANGCI_VERSION)

# Without service discovery of clouds, it builds in half the time.
promtool:
	GOBIN=$(CURDIR)/.bin go -C .tools/prometheus install -tags remove_all_sd github.com/prometheus/prometheus/cmd/promtool

# The generator's version is pinned in .tools/go.mod.
generate: ## write the generated files (*.gen.go) anew
	go generate ./...

clean: ## remove what was built
	rm -rf .bin relay
