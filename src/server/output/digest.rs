use std::fmt::Write;
use std::io;

use sha2::{Digest, Sha256};

use super::file::OutputFile;

/// What one thread of the pool reads in one go: some milliseconds.
const PIECE: u64 = 1 << 20;
const READ_AT_ONCE: u64 = 256 << 10;

/// SHA-256 of the first `kept` bytes in lower-case hexadecimal, for records that do not tell it.
///
/// Piece by piece: a reader that goes ends it, and others have their turn in between.
pub(super) async fn of_kept(file: Option<OutputFile>, kept: u64) -> io::Result<String> {
    let mut digest = Sha256::new();
    if let Some(mut file) = file {
        let mut offset = 0;
        while offset < kept {
            let until = kept.min(offset + PIECE);
            let piece = move || {
                let reached = add(&mut digest, &file, offset, until)?;
                io::Result::Ok((digest, file, reached))
            };
            (digest, file, offset) = tokio::task::spawn_blocking(piece).await??;
            if offset < until {
                break;
            }
        }
    }
    Ok(hexadecimal(&digest.finalize()))
}

/// Adds what is between these offsets; how far the file went.
fn add(digest: &mut Sha256, file: &OutputFile, mut offset: u64, until: u64) -> io::Result<u64> {
    while offset < until {
        let most = (until - offset).min(READ_AT_ONCE);
        let bytes = file.read_blocking(offset, most as usize)?;
        if bytes.is_empty() {
            break;
        }
        offset += bytes.len() as u64;
        digest.update(&bytes);
    }
    Ok(offset)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_of_what_is_kept_however_many_pieces_that_is() {
        let dir = tempfile::tempdir().expect("tempdir");
        let bytes: Vec<u8> = (0..3 * PIECE + 7).map(|number| (number % 251) as u8).collect();
        std::fs::write(dir.path().join("stdout"), &bytes).expect("write");
        for kept in [0, 1, PIECE, 3 * PIECE + 7, 9 * PIECE] {
            let file = OutputFile::open(dir.path(), "stdout").expect("open");
            let there = usize::try_from(kept).expect("small").min(bytes.len());
            let expected = hexadecimal(&Sha256::digest(&bytes[..there]));
            assert_eq!(of_kept(file, kept).await.expect("read"), expected, "{kept}");
        }
    }
}
