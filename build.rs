//! Compiles the .proto files without protoc: protox is a compiler in Rust, so that a fresh machine needs nothing.

use std::{env, error::Error, fs, path::PathBuf};

const PROTOS: [&str; 2] = ["jobscheduler/jobscheduler.proto", "stockade/v1/worker.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Reflection serves this file.
    fs::write(out.join("descriptors.bin"), prost_encode(&descriptors))?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}

fn prost_encode(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}
