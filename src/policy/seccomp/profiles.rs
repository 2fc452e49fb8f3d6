//! All profiles that a policy can name.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use super::filter::{Filter, Rule};
use super::instruction::Instruction;
use super::oci;
use super::profile::ProfileFile;
use crate::job::SeccompProfile;
use crate::policy::built_in;
use crate::policy::compiled::hex;
use crate::policy::document::{BuiltIn, Document, built_in_file};
use crate::policy::error::PolicyError;
use crate::policy::library::name_of;

pub(in crate::policy) const BUILT_IN: [BuiltIn; 3] = [
    built_in_file!("seccomp/", "default"),
    built_in_file!("seccomp/", "strict"),
    built_in_file!("seccomp/", "ci"),
];

/// Longer chains of `extends` are a mistake.
const LONGEST_CHAIN: usize = 8;

/// The built-in profiles, and those of files in their place.
#[derive(Debug, Clone, Default)]
pub(in crate::policy) struct Profiles {
    from_files: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    document: Document,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Toml { file: ProfileFile, rules: Vec<Rule> },
    Oci(Filter),
}

impl Profiles {
    /// Adds `NAME.toml` or `NAME.json`, in place of a built-in profile of that name.
    pub(in crate::policy) fn add_file(&mut self, path: &Path) -> Result<String, PolicyError> {
        let name = name_of(path)?;
        let document = Document::read(path)?;
        let entry = if path.extension().is_some_and(|extension| extension == "json") {
            Entry::json(document)?
        } else {
            Entry::toml(document)?
        };
        let twin = self.from_files.get(&name).map(|other| &other.document.path);
        if twin.is_some_and(|twin| twin.parent() == path.parent() && twin != path) {
            return Err(PolicyError::File {
                path: path.to_owned(),
                position: None,
                reason: "there is a .toml and a .json of this name".to_owned(),
            });
        }
        self.from_files.insert(name.clone(), entry);
        Ok(name)
    }

    /// As [`Profiles::compile`], but for a built-in one that no file can have changed, which is compiled already.
    pub(in crate::policy) fn compiled(&self, name: &str) -> Option<Result<SeccompProfile, PolicyError>> {
        if self.from_files.is_empty()
            && let Some(profile) = built_in::compiled().and_then(|compiled| compiled.profile(name))
        {
            return Some(Ok(profile));
        }
        self.compile(name)
    }

    /// The program of the profile `name`; `None` where there is no such profile.
    pub(in crate::policy) fn compile(&self, name: &str) -> Option<Result<SeccompProfile, PolicyError>> {
        let entry = self.entry(name)?;
        Some(self.filter(name, entry).and_then(|filter| {
            let program = filter.compile().map_err(|error| entry.fault(error.to_string()))?;
            let program: Vec<u64> = program.into_iter().map(Instruction::to_word).collect();
            let bytes: Vec<u8> = program.iter().flat_map(|word| word.to_ne_bytes()).collect();
            Ok(SeccompProfile {
                name: name.to_owned(),
                hash: hex(&Sha256::digest(&bytes)),
                default_action: filter.default.to_string(),
                program,
            })
        }))
    }

    /// The profile `name` in the compiler's terms.
    #[cfg(test)]
    pub(super) fn get(&self, name: &str) -> Option<Filter> {
        self.filter(name, self.entry(name)?).ok()
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        self.from_files.get(name).or_else(|| built_in_entry(name))
    }

    /// The rules of `name`, then those of what it extends.
    fn filter(&self, name: &str, entry: &Entry) -> Result<Filter, PolicyError> {
        let mut filter_rules = Vec::new();
        let mut default = None;
        let mut chain = vec![name.to_owned()];
        let mut entry = entry;
        loop {
            let (file, rules) = match &entry.content {
                Content::Toml { file, rules } => (file, rules),
                Content::Oci(filter) => {
                    filter_rules.extend_from_slice(&filter.rules);
                    default = default.or(Some(filter.default));
                    break;
                }
            };
            filter_rules.extend_from_slice(rules);
            default = default.or(file.default);
            let Some(parent) = &file.extends else { break };
            let parent = parent.as_str();
            if chain.iter().any(|name| name == parent) || chain.len() == LONGEST_CHAIN {
                let reason = format!("a circle or too long a chain: {} -> {parent}", chain.join(" -> "));
                return Err(entry.document.error_at("extends", reason));
            }
            chain.push(parent.to_owned());
            entry = self.entry(parent).ok_or_else(|| {
                entry
                    .document
                    .error_at("extends", format!("there is no profile {parent:?}"))
            })?;
        }
        let default = default.ok_or_else(|| entry.fault("default: is nowhere set".to_owned()))?;
        Ok(Filter {
            default,
            rules: filter_rules,
        })
    }
}

/// Each is read when it is first asked for: who runs one job needs one or two.
fn built_in_entry(name: &str) -> Option<&'static Entry> {
    static READ: [OnceLock<Entry>; BUILT_IN.len()] = [const { OnceLock::new() }; BUILT_IN.len()];
    let index = BUILT_IN.iter().position(|file| file.name == name)?;
    Some(READ[index].get_or_init(|| {
        let document = Document::built_in("seccomp/", &BUILT_IN[index]);
        Entry::toml(document).expect("the built-in profiles are well-formed: a test reads them")
    }))
}

impl Entry {
    fn toml(document: Document) -> Result<Self, PolicyError> {
        let file: ProfileFile = document.parse()?;
        let rules = file.rules(&document)?;
        Ok(Self {
            document,
            content: Content::Toml { file, rules },
        })
    }

    fn json(document: Document) -> Result<Self, PolicyError> {
        match oci::parse(&document.text) {
            Ok(filter) => Ok(Self {
                document,
                content: Content::Oci(filter),
            }),
            Err(error) => Err(PolicyError::File {
                path: document.path,
                position: error.position(),
                reason: error.to_string(),
            }),
        }
    }

    fn fault(&self, reason: String) -> PolicyError {
        PolicyError::File {
            path: self.document.path.clone(),
            position: None,
            reason,
        }
    }
}

/// Reads one profile and compiles it, with the built-in ones to extend.
pub(in crate::policy) fn check_file(path: &Path) -> Result<(), PolicyError> {
    let mut profiles = Profiles::default();
    let name = profiles.add_file(path)?;
    match profiles.compile(&name) {
        Some(result) => result.map(drop),
        None => Ok(()),
    }
}
