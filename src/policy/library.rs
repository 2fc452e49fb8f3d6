//! All policy files and seccomp profiles that there are: the built-in ones and those of a folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::document::{BuiltIn, Document, built_in_file};
use super::error::PolicyError;
use super::inherit::Source;
use super::names::check_name;
use super::seccomp::Profiles;

const BUILT_IN: [BuiltIn; 3] = [
    built_in_file!("", "default"),
    built_in_file!("", "strict"),
    built_in_file!("", "ci"),
];
/// The policy that all others start from.
pub(super) const BASE: &str = "default";
/// The folder beside the policies that holds seccomp profiles.
pub(super) const SECCOMP: &str = "seccomp";

#[derive(Debug, Clone)]
pub(super) struct Library {
    pub(super) policies: BTreeMap<String, Source>,
    pub(super) profiles: Profiles,
    /// The built-in default, whatever replaces it in `policies`.
    pub(super) base: Source,
}

impl Library {
    pub(super) fn built_in() -> Result<Self, PolicyError> {
        let mut policies = BTreeMap::new();
        for file in &BUILT_IN {
            policies.insert(file.name.to_owned(), built_in_source(file)?);
        }
        Ok(Self {
            base: policies[BASE].clone(),
            policies,
            profiles: Profiles::default(),
        })
    }

    /// Adds the files of `dir`: they replace what has the same name.
    pub(super) fn add_folder(&mut self, dir: &Path) -> Result<(), PolicyError> {
        for path in files_of(dir, &["toml"])? {
            self.add_policy(&path)?;
        }
        self.add_profiles(dir)
    }

    fn add_policy(&mut self, path: &Path) -> Result<String, PolicyError> {
        let name = name_of(path)?;
        let source = Source::new(Document::read(path)?)?;
        self.policies.insert(name.clone(), source);
        Ok(name)
    }
}

impl Library {
    /// Adds the policy at `path` with its neighbours that it inherits from, and the profiles beside it.
    pub(super) fn add_with_ancestors(&mut self, path: &Path) -> Result<String, PolicyError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        self.add_profiles(folder)?;
        let name = self.add_policy(path)?;
        let mut seen = vec![name.clone()];
        while let Some(parent) = self.parent_of(&seen[seen.len() - 1]) {
            let file = folder.join(format!("{parent}.toml"));
            if seen.contains(&parent) || !file.exists() {
                break;
            }
            seen.push(self.add_policy(&file)?);
        }
        Ok(name)
    }

    fn parent_of(&self, name: &str) -> Option<String> {
        let parent = self.policies[name].file.inherits.as_ref()?;
        Some(parent.as_str().to_owned())
    }

    fn add_profiles(&mut self, folder: &Path) -> Result<(), PolicyError> {
        let seccomp = folder.join(SECCOMP);
        if seccomp.is_dir() {
            for path in files_of(&seccomp, &["toml", "json"])? {
                self.profiles.add_file(&path)?;
            }
        }
        Ok(())
    }
}

fn built_in_source(file: &BuiltIn) -> Result<Source, PolicyError> {
    Source::new(Document::built_in("", file))
}

/// The name that a file gives to what it holds.
pub(super) fn name_of(path: &Path) -> Result<String, PolicyError> {
    let stem = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    match check_name(&stem) {
        Ok(()) => Ok(stem),
        Err(reason) => Err(PolicyError::File {
            path: path.to_owned(),
            position: None,
            reason: format!("{stem:?} {reason}"),
        }),
    }
}

/// The files of `dir` with one of these extensions, sorted. Hidden files, such as editors leave, are no policies.
fn files_of(dir: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, PolicyError> {
    let failed = |source| PolicyError::Read {
        path: dir.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let wanted = path
            .extension()
            .is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted));
        if wanted && !hidden {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
