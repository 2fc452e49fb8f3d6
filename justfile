# The first targets are what .ci/run does, step by step; the bench ones measure.

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

# What launches and output cost here; options as `stockade bench --help` tells them.
bench *OPTIONS:
    cargo build --release --locked
    target/release/stockade bench {{OPTIONS}}

# The tables and pictures of docs/performance.md: six minutes on a quiet machine, as root. --quick takes one.
bench-peers *OPTIONS:
    cargo bench --locked --bench peers -- {{OPTIONS}}

ci:
    .ci/run
