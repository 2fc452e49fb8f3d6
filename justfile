# The first targets are steps of .ci/run for a tree that is edited; the bench ones measure.

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

# Processes killed, steps that fail, resources that run out, many jobs: some rounds of each.
faults:
    cargo test --locked --features fault-points --test faults

# The same, twenty rounds of each, and 20000 jobs; then the worst of them on pure cgroup v2. Takes the better part of a night.
nightly:
    STOCKADE_TEST_REQUIRE=1 STOCKADE_TEST_ROUNDS=20 cargo test --locked --features fault-points --test faults -- --nocapture
    cargo build --locked
    VM_TIMEOUT=28800 STOCKADE_BIN=target/debug/stockade tests/vm/run -- env STOCKADE_TEST_ROUNDS=20 python3 /vm/suite faults

# The core of the tests on pure cgroup v2, in a virtual machine under software emulation.
vm: build
    STOCKADE_BIN=target/debug/stockade tests/vm/run

# What launches and output cost here; options as `stockade bench --help` tells them.
bench *OPTIONS:
    cargo build --release --locked
    target/release/stockade bench {{OPTIONS}}

# The tables and pictures of docs/performance.md: twenty minutes on a quiet machine, as root. --quick takes one.
bench-peers *OPTIONS:
    cargo bench --locked --bench peers -- {{OPTIONS}}

# The parts of a launch, each by itself; options as criterion has them.
bench-parts *OPTIONS:
    cargo bench --locked --bench parts -- {{OPTIONS}}

ci:
    .ci/run
