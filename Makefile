# `make` alone lists what there is. Everything but Go (see go.mod for the
# version) is fetched by the targets that need it.

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

# withpostgres and gotest are small commands of ours: one PostgreSQL for all
# packages, and skipped tests named. See deploy/testenv. Vetting is lint's.
# The suite of faults runs after all others: its many processes would leave these too
# little of a small machine for their time limits.
# Their files are in memory where that can be, and programs run there: a disk that one
# test's database keeps busy holds up the commits of all others for seconds.
IN_MEMORY = t=$$(mktemp /dev/shm/oprelay.XXXXXX 2>/dev/null) && echo '\#!/bin/sh' >$$t && chmod +x $$t && $$t 2>/dev/null && echo /dev/shm; rm -f $$t
test: ## run all tests, race detector on; installs redis-server and PostgreSQL if it can
	deploy/install-test-servers.sh
	go build -o .bin/ ./deploy/testenv/withpostgres ./deploy/testenv/gotest
	memory=$$($(IN_MEMORY)); export TMPDIR=$${memory:-$${TMPDIR:-/tmp}}; \
	.bin/withpostgres .bin/gotest -race -vet=off -timeout 20m $$(go list ./... | grep -v '/chaos$$') && \
	.bin/withpostgres .bin/gotest -race -vet=off -timeout 20m ./deploy/chaos

# BENCH="-only burst,latency -runs 1" measures less, "-only million -watches 1000000" more.
BENCH ?=
bench: ## measure the relay against what limits it, under 10 minutes
	deploy/install-test-servers.sh
	go run ./cmd/bench $(BENCH)

# Without the race detector: what is measured is the program that runs elsewhere. The
# suites are mostly idle, so several run at once, but for those that measure delays.
chaos: ## break everything under load, up to 10 minutes, and print what was lost
	deploy/install-test-servers.sh
	go build -o .bin/ ./deploy/testenv/withpostgres
	go test -c -o .bin/chaos ./deploy/chaos
	.bin/withpostgres .bin/chaos -long -test.parallel 5 -test.timeout 11m

# What it finds is kept in the package's testdata/fuzz, and is a test from then on.
FUZZTIME ?= 30s
fuzz: ## run each fuzz target for FUZZTIME (30s), one after the other
	@for package in $$(go list ./...); do \
		targets=$$(go test -list '^Fuzz' $$package) || exit 1; \
		for target in $$(echo "$$targets" | grep '^Fuzz'); do \
			echo "== $$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
		done; \
	done

# With -race, vet and the linters use what was compiled for the tests.
lint: linter promtool ## vet, golangci-lint, govulncheck, alert rules, syntax of the shell scripts
	go vet -race ./...
	GOFLAGS="$$(go env GOFLAGS) -race" .bin/golangci-lint run ./...
	go run ./deploy/vulncheck
	.bin/promtool check rules --lint=all --lint-fatal deploy/prometheus/alerts.yml
	.bin/promtool test rules deploy/prometheus/alerts_test.yml
	for script in deploy/*.sh; do sh -n $$script || exit 1; done
	bash -n .ci/run

format: linter ## format the Go code
	.bin/golangci-lint fmt ./...

# Built from source if it is absent or of another version, which takes minutes.
linter:
	@test "$$(.bin/golangci-lint version --short 2>/dev/null)" = $(GOLANGCI_VERSION) || \
		GOBIN=$(CURDIR)/.bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$(GOLANGCI_VERSION)

# Without the clients of clouds, which find what to scrape: half the time to build.
promtool:
	GOBIN=$(CURDIR)/.bin go -C .tools/prometheus install -tags remove_all_sd github.com/prometheus/prometheus/cmd/promtool

# The generator's version is pinned in .tools/go.mod.
generate: ## write the generated files (*.gen.go) anew
	go generate ./...

clean: ## remove what was built
	rm -rf .bin relay
