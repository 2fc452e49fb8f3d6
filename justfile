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

bench:
    cargo bench --locked

ci:
    .ci/run
