# Everything here is a one-line name for a command that can be typed as well.
GO            ?= go
LINT_VERSION  := v2.15.0
LINT          := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
FUZZTIME      ?= 10m
DEMO_FOR      ?= 20s
SOAK          ?= 1h
OUTAGE        ?= 10m

.DEFAULT_GOAL := help

.PHONY: help
help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## static binaries in bin/
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/mooring ./cmd/fleet

.PHONY: demo
demo: ## a server, 25 devices with faults and this machine, for 20 s
	$(GO) run ./cmd/mooring demo --for $(DEMO_FOR)

.PHONY: test
test: ## all tests (needs an installed PostgreSQL)
	$(GO) test ./...

.PHONY: race
race: ## all tests with the race detector
	$(GO) test -race ./...

.PHONY: cover
cover: ## all tests, coverage.html
	$(GO) test -coverpkg=./... -coverprofile=coverage.out ./...
	$(GO) tool cover -html=coverage.out -o coverage.html
	$(GO) tool cover -func=coverage.out | tail -n 1

.PHONY: bench
bench: ## all benchmarks with allocations
	$(GO) test -run='^$$' -bench=. -benchmem ./...

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME; what is found stays in .fuzz/
	./.ci/fuzz $(FUZZTIME)

.PHONY: faults
faults: ## the fault suite: everything broken, some minutes
	$(GO) test ./... -run Fault

.PHONY: soak
soak: ## the fault suite mixed at random for SOAK, and docs/RELIABILITY.md
	MOORING_FAULTS_SOAK=$(SOAK) UPDATE_DOCS=1 $(GO) test ./internal/faults -run '^TestSoak$$' -v -count=1 -timeout 0

.PHONY: soak-outage
soak-outage: ## PostgreSQL away for OUTAGE at 20,000 rows/s, and docs/RELIABILITY.md
	MOORING_FAULTS_OUTAGE=$(OUTAGE) UPDATE_DOCS=1 $(GO) test ./internal/faults -run '^TestFaultOutage$$' -v -count=1 -timeout 0

.PHONY: fmt
fmt: ## format all Go files
	$(LINT) fmt

.PHONY: lint
lint: ## go vet and the linters (the first time builds them: minutes)
	$(GO) vet ./...
	$(LINT) run

.PHONY: vuln
vuln: ## known vulnerabilities in what the code calls
	./.ci/vuln

.PHONY: ci
ci: ## all of what CI does
	./.ci/run
