use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::bounds;
use super::{IsolationFloor, Limit, LimitsRequest, Network, OnOutputLimit, Signal};

/// What a client asks for. Nothing in it is trusted; [`JobRequest::check`] holds it within [`bounds`].
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobRequest {
    /// The command and its arguments. May be empty if `script` has a `#!` line.
    pub argv: Vec<String>,
    /// Content of a script, given to `argv` as its next argument.
    pub script: Option<Blob>,
    /// A script in the worker's scripts folder, relative to it, given to `argv` as its next argument.
    pub path: Option<String>,
    /// Arguments after the script or path.
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub files: Vec<InputFile>,
    pub stdin: Option<Blob>,
    /// Absolute, or relative to the workspace.
    pub working_dir: Option<String>,
    pub policy: Option<String>,
    pub limits: LimitsRequest,
    pub labels: BTreeMap<String, String>,
    pub stop_signal: Option<Signal>,
    pub grace_ms: Option<u64>,
    pub on_output_limit: Option<OnOutputLimit>,
    pub network: Option<Network>,
    pub require: IsolationFloor,
}

/// A file to be put into the workspace.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// Relative to the workspace.
    pub path: String,
    pub content: Blob,
    /// Permission bits.
    pub mode: u32,
}

/// Bytes that a client sent. `Debug` tells only how many.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Blob(#[serde(with = "serde_bytes")] pub Vec<u8>);

/// A field of a request and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct InvalidField {
    pub field: String,
    pub reason: String,
}

impl InvalidField {
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

impl JobRequest {
    /// Refuses what is out of bounds, malformed or contradictory, naming the field.
    ///
    /// Says nothing of permissions: that is the policy's part.
    pub fn check(&self) -> Result<(), InvalidField> {
        self.check_size()?;
        self.check_command()?;
        self.check_environment()?;
        self.check_files()?;
        check_labels(&self.labels)?;
        self.check_limits()?;
        if let Some(dir) = &self.working_dir {
            check_path("working_dir", dir)?;
        }
        if let Some(name) = &self.policy {
            check_name("policy", name, bounds::POLICY_NAME_BYTES)?;
        }
        if self.grace_ms.is_some_and(|grace| grace > bounds::GRACE_MS) {
            return Err(InvalidField::new(
                "grace_ms",
                format!("more than {} (a day)", bounds::GRACE_MS),
            ));
        }
        Ok(())
    }

    fn check_command(&self) -> Result<(), InvalidField> {
        if self.script.is_some() && self.path.is_some() {
            return Err(InvalidField::new("path", "cannot be given together with script"));
        }
        let has_shebang = self
            .script
            .as_ref()
            .is_some_and(|script| script.0.starts_with(b"#!"));
        match self.argv.first() {
            None if self.path.is_some() || has_shebang => {}
            None if self.script.is_some() => {
                return Err(InvalidField::new("argv", "empty, and the script has no #! line"));
            }
            None => return Err(InvalidField::new("argv", "no command")),
            Some(command) if command.trim().is_empty() => {
                return Err(InvalidField::new("argv[0]", "an empty command"));
            }
            Some(command) if command.len() > bounds::PATH_BYTES => {
                return Err(InvalidField::new(
                    "argv[0]",
                    format!("longer than {} bytes", bounds::PATH_BYTES),
                ));
            }
            Some(_) => {}
        }
        at_most(
            "argv",
            "arguments",
            self.argv.len() + self.args.len(),
            bounds::ARGUMENTS,
        )?;
        check_words("argv", &self.argv)?;
        check_words("args", &self.args)?;
        let total = self
            .argv
            .iter()
            .chain(&self.args)
            .map(|word| word.len() + 1)
            .sum();
        at_most("argv", "bytes in all", total, bounds::ARGUMENTS_TOTAL_BYTES)?;
        if let Some(path) = &self.path {
            check_relative_path("path", path)?;
        }
        Ok(())
    }

    fn check_environment(&self) -> Result<(), InvalidField> {
        at_most("env", "variables", self.env.len(), bounds::ENVIRONMENT_WORDS)?;
        let mut total = 0;
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(InvalidField::new(
                    "env",
                    "a name that is empty or holds '=' or NUL",
                ));
            }
            if value.contains('\0') {
                return Err(InvalidField::new(
                    format!("env[{}]", printable(name)),
                    "the value holds a NUL",
                ));
            }
            let length = name.len() + value.len() + 2;
            at_most(
                &format!("env[{}]", printable(name)),
                "bytes",
                length,
                bounds::ARGUMENT_BYTES,
            )?;
            total += length;
        }
        at_most("env", "bytes in all", total, bounds::ARGUMENTS_TOTAL_BYTES)
    }

    fn check_files(&self) -> Result<(), InvalidField> {
        at_most("files", "files", self.files.len(), bounds::FILES)?;
        let mut paths = HashSet::with_capacity(self.files.len());
        for (index, file) in self.files.iter().enumerate() {
            check_relative_path(&format!("files[{index}].path"), &file.path)?;
            if file.mode & !0o777 != 0 {
                return Err(InvalidField::new(
                    format!("files[{index}].mode"),
                    "more than permission bits (0777)",
                ));
            }
            if !paths.insert(file.path.as_str()) {
                return Err(InvalidField::new(format!("files[{index}].path"), "given twice"));
            }
        }
        Ok(())
    }

    /// What may be large, together. The field that is named is the largest.
    fn check_size(&self) -> Result<(), InvalidField> {
        let words = |words: &[String]| words.iter().map(String::len).sum::<usize>();
        let pairs =
            |pairs: &BTreeMap<String, String>| pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
        let files = self
            .files
            .iter()
            .map(|file| file.path.len() + file.content.0.len())
            .sum();
        let parts = [
            ("script", self.script.as_ref().map_or(0, |script| script.0.len())),
            ("stdin", self.stdin.as_ref().map_or(0, |stdin| stdin.0.len())),
            ("files", files),
            ("argv", words(&self.argv) + words(&self.args)),
            ("env", pairs(&self.env)),
            ("labels", pairs(&self.labels)),
        ];
        let total = parts.iter().map(|(_, bytes)| bytes).sum();
        let largest = parts.iter().max_by_key(|(_, bytes)| bytes);
        let field = largest.map_or("script", |(field, _)| field);
        at_most(field, "bytes in the whole request", total, bounds::REQUEST_BYTES)
    }

    fn check_limits(&self) -> Result<(), InvalidField> {
        for limit in Limit::ALL {
            let Some(value) = self.limits.get(limit) else {
                continue;
            };
            let field = || format!("limits.{}", limit.field());
            if value < limit.smallest() {
                return Err(InvalidField::new(
                    field(),
                    format!("{value} is less than {}", limit.smallest()),
                ));
            }
            if value > limit.largest() {
                return Err(InvalidField::new(
                    field(),
                    format!("{value} is more than {}", limit.largest()),
                ));
            }
        }
        Ok(())
    }
}

/// Labels of a job, or labels to select jobs by.
pub(crate) fn check_labels<'a>(
    labels: impl IntoIterator<Item = (&'a String, &'a String), IntoIter: ExactSizeIterator>,
) -> Result<(), InvalidField> {
    let labels = labels.into_iter();
    at_most("labels", "labels", labels.len(), bounds::LABELS)?;
    for (key, value) in labels {
        check_name("labels", key, bounds::LABEL_KEY_BYTES)?;
        let field = format!("labels[{key}]");
        at_most(&field, "bytes", value.len(), bounds::LABEL_VALUE_BYTES)?;
        if value.chars().any(is_unprintable) {
            return Err(InvalidField::new(
                field,
                "holds control or text direction characters",
            ));
        }
    }
    Ok(())
}

/// A tenant's name, or another's of whom a record tells.
pub(crate) fn check_teller(field: &str, name: &str) -> Result<(), InvalidField> {
    at_most(field, "bytes", name.len(), bounds::TENANT_BYTES)?;
    if name.chars().any(is_unprintable) {
        return Err(InvalidField::new(
            field,
            "holds control or text direction characters",
        ));
    }
    Ok(())
}

fn at_most(field: &str, what: &str, count: usize, most: usize) -> Result<(), InvalidField> {
    if count > most {
        Err(InvalidField::new(field, format!("more than {most} {what}")))
    } else {
        Ok(())
    }
}

fn check_words(field: &str, words: &[String]) -> Result<(), InvalidField> {
    for (index, word) in words.iter().enumerate() {
        if word.contains('\0') {
            return Err(InvalidField::new(format!("{field}[{index}]"), "holds a NUL"));
        }
        at_most(
            &format!("{field}[{index}]"),
            "bytes",
            word.len() + 1,
            bounds::ARGUMENT_BYTES,
        )?;
    }
    Ok(())
}

fn check_path(field: &str, path: &str) -> Result<(), InvalidField> {
    if path.trim().is_empty() {
        return Err(InvalidField::new(field, "empty"));
    }
    at_most(field, "bytes", path.len(), bounds::PATH_BYTES)?;
    if path.contains('\0') {
        return Err(InvalidField::new(field, "holds a NUL"));
    }
    let mut components = 0;
    for component in path.split('/') {
        if component == ".." {
            return Err(InvalidField::new(field, "holds a '..'"));
        }
        at_most(field, "bytes in a component", component.len(), bounds::NAME_BYTES)?;
        components += 1;
    }
    at_most(field, "components", components, bounds::PATH_COMPONENTS)
}

/// A path to a file beneath a folder that the request does not choose.
fn check_relative_path(field: &str, path: &str) -> Result<(), InvalidField> {
    check_path(field, path)?;
    if path.starts_with('/') {
        return Err(InvalidField::new(field, "not relative"));
    }
    if path.ends_with('/')
        || path
            .split('/')
            .all(|component| component.is_empty() || component == ".")
    {
        return Err(InvalidField::new(field, "names a folder"));
    }
    Ok(())
}

/// A name for people and for file names: letters, digits, `-`, `_`, `.` and, for prefixes, `/`.
fn check_name(field: &str, name: &str, most: usize) -> Result<(), InvalidField> {
    at_most(field, "bytes in a name", name.len(), most)?;
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if name.is_empty() || !name.chars().all(fine) {
        return Err(InvalidField::new(
            field,
            "a name holds only letters, digits and - _ . /",
        ));
    }
    Ok(())
}

/// Control characters, line separators, and what turns the direction of the text around it: with these a text
/// can forge a line of a log or steer a terminal.
pub(crate) fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` as it may stand in a message: no control characters, no great length.
fn printable(text: &str) -> String {
    text.chars()
        .take(64)
        .map(|c| if is_unprintable(c) { '?' } else { c })
        .collect()
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Debug for InputFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({:?}, mode {:o})", self.path, self.content, self.mode)
    }
}

/// Shows neither arguments nor environment values nor content.
impl fmt::Debug for JobRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobRequest")
            .field("argv0", &self.argv.first())
            .field("script", &self.script)
            .field("path", &self.path)
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("files", &self.files)
            .field("policy", &self.policy)
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
