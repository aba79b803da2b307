# Flagship: build it, bring a cluster up, test it. `make help` lists the targets.

SHELL      := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
BIN        := bin
COMPONENTS := kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy
MODULES    := . apiserver controller-manager kube-proxy kubelet scheduler
TAG        := v1.37.2
COMMIT     := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
STATE      := $(shell test -z "$$(git status --porcelain 2>/dev/null)" && echo clean || echo dirty)
DATE       := $(shell git show -s --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ HEAD 2>/dev/null || echo 1970-01-01T00:00:00Z)
V          := flagship/internal/version
LDFLAGS    := -s -w -X $(V).gitCommit=$(COMMIT) -X $(V).gitTreeState=$(STATE) -X $(V).buildDate=$(DATE)
CTLFLAGS   := -X k8s.io/component-base/version.gitVersion=$(TAG)+flagship -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37 -X k8s.io/component-base/version.gitCommit=$(COMMIT) -X k8s.io/component-base/version.gitTreeState=$(STATE) -X k8s.io/component-base/version.buildDate=$(DATE)
# grpcnotrace leaves out x/net/trace, whose templates keep the linker from dropping unused code. What is built, tested and checked is compiled with the same
# flags, so that it is compiled once.
export GOFLAGS := $(strip $(GOFLAGS) -trimpath -tags=grpcnotrace)
export CGO_ENABLED := 0
GOBUILD    := go build -ldflags "$(LDFLAGS)"
TOOLS      := bin/tools
PROCS      ?= 4
export TZ := UTC

.PHONY: help up down build images deps testdeps test unit e2e machine race registry lint fuzz bench abuse clients conformance diff upstream mixed swap swap-in swap-all swap-page gen check tools linter fresh $(COMPONENTS) ctl

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

up: ## build all and bring a cluster up on this machine (root); NODES=2 adds machines that join it
	@hack/up.sh $(or $(NODES),1)

down: ## remove the cluster from this machine (root)
	@[ -x $(BIN)/ctl ] || $(MAKE) --no-print-directory ctl
	@hack/nodes.sh down
	@$(BIN)/ctl reset --force

build: $(COMPONENTS) ctl ## build the binaries into bin/

kube-apiserver:
	@hack/step.sh "build kube-apiserver" env -C apiserver $(GOBUILD) -o ../$(BIN)/$@ ./cmd/$@
kube-controller-manager:
	@hack/step.sh "build kube-controller-manager" env -C controller-manager $(GOBUILD) -o ../$(BIN)/$@ ./cmd/$@
kube-scheduler:
	@hack/step.sh "build kube-scheduler" env -C scheduler $(GOBUILD) -o ../$(BIN)/$@ ./cmd/$@
kubelet:
	@hack/step.sh "build kubelet" env -C kubelet $(GOBUILD) -o ../$(BIN)/$@ ./cmd/$@
kube-proxy:
	@hack/step.sh "build kube-proxy" env -C kube-proxy $(GOBUILD) -o ../$(BIN)/$@ ./cmd/$@
ctl:
	@hack/step.sh "build ctl" go build -ldflags "$(LDFLAGS) $(CTLFLAGS)" -o $(BIN)/$@ ./ctl/cmd/ctl

registry: # a container registry with a password, for the cluster test
	@hack/step.sh "build registry" env -C hack/images GOWORK=off CGO_ENABLED=0 go build -trimpath -o ../../$(BIN)/tools/$@ ./$@

images: ## build the container images into bin/images
	@cd hack/images && GOWORK=off go build -o ../../$(BIN)/tools/images .
	@$(BIN)/tools/images -bin $(BIN) -out $(BIN)/images -src hack/images -tag $(TAG)

deps: ## install what is missing from Debian's packages (root)
	@hack/deps.sh

testdeps:
	@hack/deps.sh test

test: testdeps unit e2e ## every test: the modules' and the cluster test (root)

unit: ## the tests of every module
	@for m in $(MODULES); do hack/step.sh "test $$m" env -C $$m go test ./... ; done

e2e: build images registry ## the cluster test, on a test host of its own (root)
	@hack/step.sh "cluster test" env -C hack/e2e GOWORK=off go test -count=1 -timeout 30m -v ./...

fresh: ## make up and make down on a machine that has only Debian, git, make and Go (root)
	@hack/fresh.sh

machine: build images registry ## a machine with a cluster that stays up until interrupted, for work on it (root)
	@cd hack/e2e && FLAGSHIP_E2E_HOLD=$(CURDIR)/bin/machine.pid GOWORK=off go test -count=1 -timeout 0 -v -run '^TestHold$$' ./...

race: ## the tests of every module under the race detector
	@for m in $(MODULES); do hack/step.sh "race $$m" env -C $$m CGO_ENABLED=1 go test -race ./... ; done

fuzz: ## each fuzz target for 20 seconds
	@hack/fuzz.sh 20s

bench: build images ## upstream's programs and ours side by side, and an idle cluster of ours (root): ONLY=api,memory,scheduler,controllers,proxy,pods,idle
	@hack/upstream.sh kube-apiserver etcd kube-scheduler kube-controller-manager kube-proxy kubelet
	@hack/step.sh "build bench" env -C hack/compare GOWORK=off go build -o ../../$(TOOLS)/bench ./bench
	@mkdir -p $(BIN)/bench && rm -f $(BIN)/bench/idle.txt
	@if [ -z "$(ONLY)" ] || [[ ",$(ONLY)," == *,idle,* ]]; then hack/bench.sh | tee $(BIN)/bench/idle.txt; fi
	@$(TOOLS)/bench -upstream $(BIN)/upstream -ours $(BIN) -only "$(ONLY)" -idle $(BIN)/bench/idle.txt $(if $(ONLY),,-report docs/benchmarks.md)

upstream: # upstream's programs, to compare with and to make clusters of
	@hack/upstream.sh

diff: kube-apiserver ## the same requests to upstream's kube-apiserver and ours, answers compared: SEED=1 KIND=Pod
	@hack/upstream.sh kube-apiserver etcd
	@hack/step.sh "build diff" env -C hack/compare GOWORK=off go build -o ../../$(TOOLS)/diff ./diff
	@hack/step.sh "build openapi" env -C hack/compare GOWORK=off go build -o ../../$(TOOLS)/openapi ./openapi
	@[ -n "$(KIND)" ] || $(TOOLS)/openapi -upstream $(BIN)/upstream -ours $(BIN)
	@$(TOOLS)/diff -upstream $(BIN)/upstream -ours $(BIN) -golden "$$(go list -C apiserver -m -f '{{.Dir}}' k8s.io/api)/testdata/HEAD" -seed "$(or $(SEED),0)" $(if $(KIND),-kind $(KIND),-report docs/diff.md)

abuse: kube-apiserver ## attacks on our kube-apiserver: what it answers, and what it costs; BOTH=1 has upstream's answers beside: ONLY=patch
	@hack/upstream.sh kube-apiserver etcd
	@hack/step.sh "build abuse" env -C hack/compare GOWORK=off go build -o ../../$(TOOLS)/abuse ./abuse
	@$(TOOLS)/abuse -upstream $(BIN)/upstream -ours $(BIN) -only "$(ONLY)" $(if $(BOTH),-both) $(if $(ONLY),,-report docs/abuse.md)

clients: kube-apiserver ctl ## controller-runtime's tests and sessions of kubectl, Helm, cert-manager and prometheus-operator with upstream's kube-apiserver and ours: ONLY=helm
	@hack/upstream.sh kube-apiserver etcd kubectl
	@hack/clients.sh
	@hack/step.sh "build clients" env -C hack/compare GOWORK=off go build -o ../../$(TOOLS)/clients ./clients
	@$(TOOLS)/clients -upstream $(BIN)/upstream -ours $(BIN) -only "$(ONLY)" $(if $(ONLY),,-report docs/clients.md)

conformance: ## upstream's conformance tests against the running cluster (root): FOCUS='…' SKIP='…' PROCS=4
	@hack/deps.sh conformance
	@cd hack/conformance && GOWORK=off ../step.sh "build conformance" go build -o ../../$(TOOLS)/conformance .
	@$(TOOLS)/conformance -focus "$(FOCUS)" -skip "$(SKIP)" -procs $(PROCS)

# What a cluster of both implementations is made of, and what tests it.
mixed: build images upstream
	@$(TOOLS)/images -bin $(BIN)/upstream -out $(BIN)/upstream/images -src hack/images -tag $(TAG)
	@hack/deps.sh conformance
	@cd hack/conformance && GOWORK=off ../step.sh "build conformance" go build -o ../../$(TOOLS)/ . ./dropin

swap: mixed ## our cluster with one component of upstream's, tested: COMPONENT=kube-scheduler (root)
	@hack/swap.sh swap "$(COMPONENT)"

swap-in: mixed ## upstream's cluster with one component of ours, tested: COMPONENT=kube-scheduler (root)
	@hack/swap.sh swap-in "$(COMPONENT)"

swap-all: mixed ## every swap and swap-in, and docs/drop-in.md (root)
	@hack/swap.sh all

swap-page: # docs/drop-in.md of the last run of each
	@cd hack/conformance && GOWORK=off go build -o ../../$(TOOLS)/ ./dropin
	@hack/swap.sh page

tools:
	@cd hack/tools && for t in github.com/bufbuild/buf/cmd/buf google.golang.org/grpc/cmd/protoc-gen-go-grpc google.golang.org/protobuf/cmd/protoc-gen-go mvdan.cc/gofumpt; do \
	  GOWORK=off ../step.sh "build tool $${t##*/}" go build -o ../../$(TOOLS)/$${t##*/} $$t; done

linter:
	@hack/step.sh "build tool golangci-lint" env -C hack/lint GOWORK=off go build -o ../../$(TOOLS)/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint

gen: tools ## generate the contracts' Go
	@PATH="$(CURDIR)/$(TOOLS):$$PATH" $(TOOLS)/buf generate

lint: tools linter ## format, golangci-lint
	@hack/lint.sh

check: lint ## the gate: format, linters, generated code up to date, dependency rules
	@hack/check.sh
