use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::file::OutputFile;

const READ_AT_ONCE: usize = 256 << 10;

/// SHA-256 of the first `kept` bytes in lower-case hexadecimal, for records that do not tell it.
pub(super) async fn of_kept(file: Option<OutputFile>, kept: u64) -> std::io::Result<String> {
    let digest = tokio::task::spawn_blocking(move || {
        let mut digest = Sha256::new();
        let mut offset = 0;
        while let Some(file) = &file
            && offset < kept
        {
            let most = usize::try_from(kept - offset).map_or(READ_AT_ONCE, |rest| rest.min(READ_AT_ONCE));
            let bytes = file.read_blocking(offset, most)?;
            if bytes.is_empty() {
                break;
            }
            offset += bytes.len() as u64;
            digest.update(&bytes);
        }
        std::io::Result::Ok(digest.finalize())
    });
    Ok(hexadecimal(&digest.await??))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
