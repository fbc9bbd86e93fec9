# TCManager. `make help` lists the targets.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
BUF     := node_modules/.bin/buf
MODULES := node_modules/.package-lock.json
PAGE    := clients/web/dist/index.html

# What the page is built from; it is rebuilt when one of these changed.
PAGE_SOURCES := $(shell find clients/ts/src clients/web/src clients/web/public gen/ts -type f 2>/dev/null) \
	$(wildcard clients/web/*.ts clients/web/*.html clients/web/*.json clients/ts/*.json)

.PHONY: all
all: build test lint ## Build, test, lint: all that proves a change.

.PHONY: help
help: ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | column -t -s '|'

.PHONY: build
build: $(PAGE) ## Build bin/tcmanager (with the page in it) and bin/tcm.
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/tcmanager ./cmd/tcm

.PHONY: run
run: build ## Build all and start a development server on this machine.
	@exec bin/tcmanager serve --dev --data-dir data

$(MODULES): package.json package-lock.json gen/ts/package.json clients/ts/package.json clients/web/package.json cmd/tcmbench/peers/socketio/package.json
	npm ci --no-audit --no-fund --loglevel=error
	@touch $@

$(PAGE): $(MODULES) $(PAGE_SOURCES)
	npm run build --workspace clients/web --silent
	@touch $@

.PHONY: test
test: $(MODULES) build ## Run every test: Go with the race detector, TypeScript, and the page in a real browser.
	@tools/test.sh

.PHONY: test-go
test-go: $(MODULES) ## Run the Go tests with the race detector.
	tools/test.sh go

.PHONY: test-ts
test-ts: $(MODULES) ## Run the TypeScript tests.
	tools/test.sh ts

.PHONY: test-e2e
test-e2e: build ## Run the tests in a real browser.
	tools/test.sh e2e

.PHONY: lint
lint: $(MODULES) $(PAGE) ## Check schemas, Go, TypeScript, and that generated code is fresh.
	$(BUF) lint
	$(BUF) format --diff --exit-code
	$(GO) mod verify
	$(GO) tool -modfile=tools/lint/go.mod golangci-lint run ./...
	cd cmd/tcmbench/peers/centrifuge && $(GO) mod verify && $(GO) tool -modfile=$(CURDIR)/tools/lint/go.mod golangci-lint run ./...
	node_modules/.bin/biome check --error-on-warnings .
	npm run typecheck --workspaces --if-present --silent
	tools/fresh.sh

.PHONY: generate
generate: $(MODULES) ## Generate gen/ from proto/. Running it twice changes nothing.
	tools/generate.sh

.PHONY: verify-inputs
verify-inputs: build ## Stream real test runs through and compare the counts with an independent count.
	$(GO) run ./cmd/tcm/internal/verifyinputs

.PHONY: stream-speed
stream-speed: build ## Stream large test runs as fast as they go, and print events a second and what limits them.
	$(GO) run ./cmd/tcm/internal/verifyinputs -speed $(or $(BENCH_ROUNDS),3)

# A program of its own, so that signals reach it and its last line is the last one.
CHAOS := .cache/chaos

.PHONY: chaos
chaos: build ## Break a server for CHAOS_S (120) seconds with CHAOS_SEED on CHAOS_STORE, and look what is lost.
	@$(GO) build -o $(CHAOS) ./cmd/tcmanager/internal/chaos/runchaos
	@exec $(CHAOS)

.PHONY: kills
kills: build ## Kill a server CHAOS_KILLS (100) times while it is published to, and count what is lost.
	@$(GO) build -o $(CHAOS) ./cmd/tcmanager/internal/chaos/runchaos
	@CHAOS_KILLS=$${CHAOS_KILLS:-100} exec $(CHAOS)

.PHONY: revocation
revocation: ## Measure how soon a lost right ends, on each carrier.
	$(GO) test -count=1 -v -run TestARightThatIsLostEndsWithinASecond ./cmd/tcmanager

SOAK_S     ?= 600
SOAK_CONNS ?= 1000

.PHONY: soak
soak: build ## Let SOAK_CONNS clients come and go for SOAK_S seconds, and see that the server is as it was.
	$(GO) run ./cmd/tcmanager/internal/soak -server bin/tcmanager -connections $(SOAK_CONNS) -seconds $(SOAK_S)

.PHONY: bench-page
bench-page: build ## Measure how the page stands BENCH_RESULTS (200000) results at BENCH_RATE (70000) a second; BENCH_ONLY names a case.
	@npm run bench --workspace clients/web --silent

# BENCH_ONLY=paced,burst-1000 and BENCH_SERVERS=tcmanager/web,raw measure less;
# "bin/tcmanager" is what is measured. .cache/tcmbench --help lists all names.
BENCH := .cache/tcmbench

.PHONY: bench
bench: $(MODULES) build ## Measure the server and its peers BENCH_ROUNDS (3) times: BENCH_ONLY some workloads, BENCH_SERVERS.
	@$(GO) build -o $(BENCH) ./cmd/tcmbench
	@exec $(BENCH) -server bin/tcmanager

.PHONY: clean
clean: ## Remove what was built; data/ stays.
	rm -rf bin clients/web/dist/assets clients/web/dist/*.html .cache
