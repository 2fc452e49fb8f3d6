//! The one binary: no thread exists before [`stockade::cli::main`] has chosen the role.

use std::process::ExitCode;

use stockade::sys::Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    stockade::cli::main()
}
