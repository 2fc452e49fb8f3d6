//! A TOML file of an operator, with what is needed to say where in it something is wrong.

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use super::error::{PolicyError, Position};

/// No honest policy is longer.
const LARGEST_FILE: u64 = 1 << 20;

/// A file's text and where it came from.
#[derive(Debug, Clone)]
pub(super) struct Document {
    pub(super) path: PathBuf,
    pub(super) text: Cow<'static, str>,
}

/// A file that is part of the program.
#[derive(Debug, Clone, Copy)]
pub(super) struct BuiltIn {
    pub(super) name: &'static str,
    pub(super) toml: &'static str,
}

/// The file of this name in a folder of `policies`.
macro_rules! built_in_file {
    ($folder:literal, $name:literal) => {
        $crate::policy::document::BuiltIn {
            name: $name,
            toml: include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/policies/",
                $folder,
                $name,
                ".toml"
            )),
        }
    };
}
pub(super) use built_in_file;

impl Document {
    pub(super) fn read(path: &Path) -> Result<Self, PolicyError> {
        match read_regular(path) {
            Ok(text) => Ok(Self::new(path, text)),
            Err(source) => Err(PolicyError::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }

    pub(super) fn new(path: &Path, text: String) -> Self {
        Self {
            path: path.to_owned(),
            text: text.into(),
        }
    }

    /// `folder` is that of its kind, which ends in `/`, or nothing.
    pub(super) fn built_in(folder: &str, file: &BuiltIn) -> Self {
        Self {
            path: PathBuf::from(format!("built-in {folder}{}.toml", file.name)),
            text: file.toml.into(),
        }
    }

    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, PolicyError> {
        toml::from_str(&self.text).map_err(|error| PolicyError::File {
            path: self.path.clone(),
            position: error.span().map(|span| Position::of(&self.text, span.start)),
            reason: error.message().to_owned(),
        })
    }

    /// An error at `key`, dotted and with indices (`rule[2].when`), or at the nearest table above it.
    pub(super) fn error_at(&self, key: &str, reason: impl Into<String>) -> PolicyError {
        PolicyError::File {
            path: self.path.clone(),
            position: offset_of(&self.text, key).map(|offset| Position::of(&self.text, offset)),
            reason: format!("{key}: {}", reason.into()),
        }
    }
}

/// Neither a link, so that the file is the one that the folder's owner put there, nor a FIFO, which would
/// block, nor without end.
fn read_regular(path: &Path) -> io::Result<String> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => io::Error::other("a symbolic link, which is not followed"),
            _ => error,
        })?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = String::new();
    file.take(LARGEST_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(io::Error::other(format!("longer than {LARGEST_FILE} bytes")));
    }
    Ok(text)
}

fn offset_of(text: &str, key: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut found = None;
    let mut table = document.get_ref();
    for part in key.split('.') {
        let (name, index) = match part.strip_suffix(']').and_then(|part| part.split_once('[')) {
            Some((name, index)) => (name, index.parse::<usize>().ok()),
            None => (part, None),
        };
        let Some((spelled, value)) = table.get_key_value(name) else {
            break;
        };
        found = Some(spelled.span().start);
        let mut value = value;
        if let (Some(index), DeValue::Array(array)) = (index, value.get_ref()) {
            let Some(element) = array.get(index) else { break };
            found = Some(element.span().start);
            value = element;
        }
        let DeValue::Table(inner) = value.get_ref() else {
            break;
        };
        table = inner;
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn document(text: &str) -> Document {
        Document::new(Path::new("x.toml"), text.to_owned())
    }

    #[test]
    fn errors_name_line_and_column() {
        let text = "[limits]\nmemory = \"1M\"\n[[mounts]]\nsource = \"/a\"\n[[mounts]]\n  target = \"é\"\n";
        for (key, place) in [
            ("limits.memory", "x.toml:2:1: "),
            ("limits.pids", "x.toml:1:2: "),
            ("mounts[1].target", "x.toml:6:3: "),
            ("mounts[7]", "x.toml:3:3: "),
            ("absent", "x.toml: "),
        ] {
            let message = document(text).error_at(key, "bad").to_string();
            assert_eq!(message, format!("{place}{key}: bad"));
        }
    }

    #[test]
    fn what_the_parser_refuses_has_a_place_too() {
        let error = document("a = 1\nb = [")
            .parse::<toml::Table>()
            .expect_err("malformed");
        assert!(error.to_string().starts_with("x.toml:2:"), "{error}");
    }

    #[test]
    fn only_short_regular_files_are_read() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("a.toml");
        std::fs::write(&file, "x = 1").expect("write");
        assert_eq!(Document::read(&file).expect("regular").text, "x = 1");
        let link = dir.path().join("link.toml");
        symlink(&file, &link).expect("symlink");
        let long = dir.path().join("long.toml");
        std::fs::write(&long, "#".repeat((1 << 20) + 1)).expect("write");
        let binary = dir.path().join("binary.toml");
        std::fs::write(&binary, [0xff, 0xfe]).expect("write");
        for path in [
            &link,
            &long,
            &binary,
            &dir.path().to_owned(),
            &PathBuf::from("/dev/zero"),
        ] {
            let error = Document::read(path).expect_err("refused");
            assert!(
                error.to_string().starts_with(&path.display().to_string()),
                "{error}"
            );
        }
    }
}
