# Each target is what .ci/run does, step by step.

default: fmt lint test

build:
    cargo build --locked

test:
    cargo test --locked

fmt:
    cargo fmt --all --check

lint:
    cargo clippy --all-targets --locked -- -D warnings

deny:
    cargo deny --locked check

# The core of the tests on pure cgroup v2, in a virtual machine under software emulation.
vm: build
    STOCKADE_BIN=target/debug/stockade tests/vm/run

# What a launch costs: 200 jobs, one after another.
bench:
    #!/usr/bin/env bash
    set -euo pipefail
    cargo build --release --locked
    time for _ in {1..200}; do target/release/stockade run -- true; done

ci:
    .ci/run
