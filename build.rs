//! Compiles the .proto files without protoc: protox is a compiler in Rust, so that a fresh machine needs nothing.
//! Compiles the built-in policies too, by the program's own code. Links the program.

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
    os::unix::fs::symlink,
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
        .codec_path("crate::proto::codec::Codec")
        .compile_fds(descriptors)?;
    compile_policies(&out.join("policies.bin"))?;
    println!("cargo:rustc-check-cfg=cfg(static_libc)");
    match env::var_os("CARGO_FEATURE_STATIC") {
        Some(_) => link_statically(&out),
        None => Ok(()),
    }
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

/// What rustc names for the linker, and the archive that has it.
const ARCHIVES: [(&str, &str); 7] = [
    ("libc", "libc.a"),
    ("libdl", "libdl.a"),
    ("libgcc_s", "libgcc_eh.a"),
    ("libm", "libm.a"),
    ("libpthread", "libpthread.a"),
    ("librt", "librt.a"),
    ("libutil", "libutil.a"),
];

/// Links the C library into the program, which stays position-independent: without a loader it starts sooner, and nobody's
/// `LD_PRELOAD` or library gets into a process of root. Where the C compiler has no such archives (some
/// distributions have them in a package of their own), or another C library or machine is built for, all stays as rustc
/// does it.
///
/// This is what `-C target-feature=+crt-static` does, which cargo can have only together with `--target`: without it that
/// goes for procedural macros too.
fn link_statically(out: &Path) -> Result<(), Box<dyn Error>> {
    let [host, target] = [env::var("HOST")?, env::var("TARGET")?];
    let features = env::var("CARGO_CFG_TARGET_FEATURE")?;
    if features.split(',').any(|feature| feature == "crt-static") {
        println!("cargo:rustc-cfg=static_libc");
        return Ok(());
    }
    let is_ours = host == target && target.ends_with("-linux-gnu");
    if !is_ours || !finds_hosts_by_itself() || compilers_file("rcrt1.o").is_none() {
        return Ok(());
    }
    let found = ARCHIVES.map(|(name, archive)| compilers_file(archive).map(|path| (name, path)));
    let Some(found) = found.into_iter().collect::<Option<Vec<_>>>() else {
        return Ok(());
    };
    let folder = out.join("archives");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir(&folder)?;
    for (name, path) in found {
        symlink(path, folder.join(name).with_extension("a"))?;
    }
    // The linker takes a library from the first folder that has it, shared or not.
    println!("cargo:rustc-link-arg-bins=-L{}", folder.display());
    println!("cargo:rustc-link-arg-bins=-static-pie");
    println!("cargo:rustc-cfg=static_libc");
    Ok(())
}

/// Whether this machine's C library has DNS in it, where older ones load a library for that; see `src/sys/host_names.rs`.
fn finds_hosts_by_itself() -> bool {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it always gives the same text.
        let version = unsafe { libc::gnu_get_libc_version() };
        // SAFETY: a C string that stays.
        let version = unsafe { std::ffi::CStr::from_ptr(version) };
        let mut numbers = version
            .to_str()
            .unwrap_or_default()
            .split('.')
            .map(str::parse::<u32>);
        matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (2, 34))
    }
    #[cfg(not(target_env = "gnu"))]
    false
}

/// Where the C compiler has a file of its own or of the C library.
fn compilers_file(name: &str) -> Option<PathBuf> {
    let asked = Command::new("cc")
        .arg(format!("-print-file-name={name}"))
        .output()
        .ok()?;
    let path = PathBuf::from(String::from_utf8(asked.stdout).ok()?.trim());
    // Of one that it does not have it gives the bare name.
    (path.is_absolute() && path.is_file()).then_some(path)
}

fn prost_encode(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}
