//! Compiles the .proto files without protoc: protox is a compiler in Rust, so that a fresh machine needs nothing.
//! Compiles the built-in policies too, by the program's own code. Links what unwinds the stack into the program.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "of the program's modules it needs a part"
)]

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

// The part of the program that compiles policies.
#[path = "src/job/mod.rs"]
mod job;
#[path = "src/isolation/layout.rs"]
mod layout;
#[path = "src/policy/mod.rs"]
mod policy;
#[path = "src/units/mod.rs"]
mod units;

mod isolation {
    pub(crate) use crate::layout;
}

mod build_output {
    pub(crate) const POLICIES: &[u8] = &[];
}

const PROTOS: [&str; 2] = ["jobscheduler/jobscheduler.proto", "stockade/v1/worker.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Reflection serves this file.
    fs::write(out.join("descriptors.bin"), prost_encode(&descriptors))?;
    tonic_prost_build::configure()
        .bytes(".stockade.v1.Chunk.data")
        .compile_fds(descriptors)?;
    compile_policies(&out.join("policies.bin"))?;
    link_unwinder();
    Ok(())
}

/// Writes the built-in policies, each with its filter, as the program reads them. The calls of a filter have the numbers
/// of the architecture that this script runs on: for another one nothing is written, and the program compiles them when
/// it starts.
fn compile_policies(file: &Path) -> Result<(), Box<dyn Error>> {
    for source in [
        "policies",
        "src/policy",
        "src/job",
        "src/units",
        "src/isolation/layout.rs",
    ] {
        println!("cargo:rerun-if-changed={source}");
    }
    let is_native = env::var("CARGO_CFG_TARGET_ARCH")? == env::consts::ARCH;
    let compiled = if is_native {
        policy::compile_built_in()?
    } else {
        Vec::new()
    };
    Ok(fs::write(file, compiled)?)
}

/// Takes the C compiler's unwinder from its static library, where there is one. The shared one looks at the processor each
/// time that it is loaded, which a virtual machine takes long to answer: a tenth of the start of this program.
fn link_unwinder() {
    let [host, target] = ["HOST", "TARGET"].map(|name| env::var(name).unwrap_or_default());
    // Another target has another compiler.
    if host != target || !target.ends_with("-linux-gnu") {
        return;
    }
    let asked = Command::new("cc").arg("-print-file-name=libgcc_eh.a").output();
    let path = asked.map(|answer| PathBuf::from(String::from_utf8_lossy(&answer.stdout).trim()));
    // Of one that it does not have it gives the bare name.
    if let Ok(path) = path
        && path.is_absolute()
        && path.is_file()
        && let Some(folder) = path.parent()
    {
        println!("cargo:rustc-link-search=native={}", folder.display());
        println!("cargo:rustc-link-lib=static:-bundle=gcc_eh");
    }
}

fn prost_encode(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}
