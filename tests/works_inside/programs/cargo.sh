# The toolchain is mounted at /toolchain by the policy of this test.
set -euo pipefail
export PATH=/toolchain/bin:$PATH CARGO_HOME=$PWD/home
cargo init --quiet --vcs none --name hello hello
cd hello
cat >>src/main.rs <<'R'

#[test]
fn threads_work() {
    let sum: u32 = (0..4).map(|n| std::thread::spawn(move || n)).map(|t| t.join().unwrap()).sum();
    assert_eq!(sum, 6);
}
R
cargo build --offline --quiet -j 2
[[ $(target/debug/hello) == "Hello, world!" ]]
cargo test --offline --quiet >/dev/null
