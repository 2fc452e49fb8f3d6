//! Compiles the .proto files without protoc: protox is a compiler in Rust, so that a fresh machine needs nothing. Writes the
//! built-in policies and profiles as JSON, too, which is quicker to read. Links what unwinds the stack into the program.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const PROTOS: [&str; 2] = ["jobscheduler/jobscheduler.proto", "stockade/v1/worker.proto"];
const POLICIES: [&str; 2] = ["policies", "policies/seccomp"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Reflection serves this file.
    fs::write(out.join("descriptors.bin"), prost_encode(&descriptors))?;
    tonic_prost_build::configure()
        .bytes(".stockade.v1.Chunk.data")
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=policies");
    link_unwinder();
    POLICIES.iter().try_for_each(|folder| translate(folder, &out))
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

/// Writes each TOML file of `folder` as JSON, to the same place beneath `out`.
fn translate(folder: &str, out: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(out.join(folder))?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let content: toml::Table = toml::from_str(&fs::read_to_string(&path)?)?;
            fs::write(
                out.join(path.with_extension("json")),
                serde_json::to_string(&content)?,
            )?;
        }
    }
    Ok(())
}

fn prost_encode(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}
