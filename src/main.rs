//! The one binary: no thread exists before [`stockade::cli::main`] has chosen the role.

use std::process::ExitCode;

fn main() -> ExitCode {
    stockade::cli::main()
}
