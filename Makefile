# Short names for what people do here. Everything that is built lands in a cache outside the checkout, so that a second
# clone starts warm; LAYERHOLD_CACHE moves it. Plain cargo works as well: it then compiles RocksDB by itself.

CACHE := $(or $(LAYERHOLD_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/layerhold)
export CARGO_TARGET_DIR ?= $(CACHE)/target
export ROCKSDB_LIB_DIR ?= $(CACHE)/rocksdb/lib
export ROCKSDB_STATIC ?= 1

PYTHON := .ci/python
SERVER := crates/layerhold-server
IMAGE ?=
FUZZ_SECONDS ?= 10

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what the machine lacks and build RocksDB once; all other targets do it themselves
	@.ci/setup
	@.ci/rocksdb

build: ## build the server, optimised
	@.ci/setup build
	@.ci/rocksdb
	cargo build --release --locked -p layerhold-server

demo: build ## push, kill, resume and pull a real image; IMAGE=docker://... takes another one
	@.ci/setup clients
	@$(PYTHON) $(SERVER)/demo/demo.py --server $(CARGO_TARGET_DIR)/release/layerhold $(DEMO_FLAGS) $(if $(IMAGE),--image '$(IMAGE)')

test: ## run the tests, compare the generated ECR tables with botocore, check what the engine depends on
	@.ci/setup build clients
	@.ci/rocksdb
	cargo test --workspace --locked
	.ci/check codegen
	.ci/check engine

clients: ## run boto3, the AWS SDK for JavaScript and skopeo against a server
	@.ci/setup build clients node
	@.ci/rocksdb
	cargo build --locked -p layerhold-server
	LAYERHOLD=$(CARGO_TARGET_DIR)/debug/layerhold $(PYTHON) -m pytest -q $(SERVER)/tests/clients
	.ci/check node $(CARGO_TARGET_DIR)/debug/layerhold

bench: ## run the engine's benches, each with its yardstick
	@.ci/setup build
	@.ci/rocksdb
	cargo bench --locked -p layerhold-benches -- $(BENCH_FLAGS)

http-bench: build ## measure the server beside docker-registry; BENCH_FLAGS='--rounds 1 --only pull' narrows it
	@.ci/setup bench
	cargo run --release --locked -p layerhold-benches --bin http_table -- \
		--layerhold $(CARGO_TARGET_DIR)/release/layerhold --dir $(CACHE) $(BENCH_FLAGS)

fuzz: ## run every fuzz target for FUZZ_SECONDS=10
	@.ci/setup build tools
	.ci/check fuzz $(FUZZ_SECONDS)

fmt: ## format the code
	cargo fmt --all
	@if [ -f fuzz/Cargo.toml ]; then cargo fmt --manifest-path fuzz/Cargo.toml; fi
	@.ci/setup clients
	$(PYTHON) -m ruff format -q $(SERVER)/demo $(SERVER)/tests/clients

lint: ## format check, clippy and Python's linter, warnings denied
	@.ci/setup build clients
	@.ci/rocksdb
	.ci/check fmt
	.ci/check clippy

docs: ## build the documentation
	@.ci/setup build
	@.ci/rocksdb
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked

ci: ## everything that is checked on every change
	@bash .ci/run

.PHONY: help setup build demo test clients bench http-bench fuzz fmt lint docs ci
