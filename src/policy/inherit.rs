//! Inheritance: a policy is the built-in `default`, changed by each file of its chain from the eldest down.
//!
//! Tables are merged key by key; any other value, lists included, replaces the inherited one. A key that an
//! ancestor lists in `final` cannot be set by what inherits it.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::document::Document;
use super::error::PolicyError;
use super::file::PolicyFile;

/// Longer chains are a mistake, and nobody could say what they mean.
const LONGEST_CHAIN: usize = 8;

/// Keys that a policy need not have, and can still close to those that inherit it.
const OPTIONAL: [&str; 2] = ["commands", "mounts"];

/// One policy file, read and found well-formed by itself.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) document: Document,
    pub(super) file: PolicyFile,
    table: Table,
}

impl Source {
    pub(super) fn new(document: Document) -> Result<Self, PolicyError> {
        let table: Table = document.parse()?;
        // What is wrong is told with its place, which a table does not know.
        let file = table.clone().try_into().or_else(|_| document.parse())?;
        Ok(Self {
            document,
            file,
            table,
        })
    }
}

/// The values of `name` with all that it inherits, `base` first.
pub(super) fn flatten(
    name: &str,
    sources: &BTreeMap<String, Source>,
    base: &Source,
) -> Result<PolicyFile, PolicyError> {
    let mut merged = base.table.clone();
    let mut locked: Vec<String> = Vec::new();
    let chain = chain(name, sources)?;
    for source in chain.iter().rev() {
        if let Some(key) = locked.iter().find(|key| sets(&source.table, key)) {
            return Err(source
                .document
                .error_at(key, "an inherited policy has made this final"));
        }
        merge(&mut merged, &source.table);
        for key in &source.file.locked {
            if !sets(&merged, key) && !OPTIONAL.contains(&key.as_str()) {
                return Err(source
                    .document
                    .error_at("final", format!("{key:?} is no key of this policy")));
            }
            if !locked.contains(key) {
                locked.push(key.clone());
            }
        }
    }
    let mut file: PolicyFile = merged.try_into().map_err(|error: toml::de::Error| {
        // Each file was well-formed by itself, and merging keeps it so.
        chain[0].document.error_at("inherits", error.message())
    })?;
    file.locked = locked;
    file.inherits = None;
    file.description.clone_from(&chain[0].file.description);
    Ok(file)
}

/// The files from `name` up to the one that inherits nothing.
fn chain<'a>(name: &str, sources: &'a BTreeMap<String, Source>) -> Result<Vec<&'a Source>, PolicyError> {
    let mut names: Vec<&str> = Vec::new();
    let mut chain: Vec<&Source> = Vec::new();
    let mut next = name.to_owned();
    while let Some((known_as, source)) = sources.get_key_value(&next) {
        names.push(known_as);
        chain.push(source);
        let Some(parent) = &source.file.inherits else {
            return Ok(chain);
        };
        let refused = |reason: String| Err(source.document.error_at("inherits", reason));
        if names.contains(&parent.as_str()) {
            return refused(format!("a circle: {} -> {}", names.join(" -> "), parent.as_str()));
        }
        if chain.len() == LONGEST_CHAIN {
            return refused(format!("a chain of more than {LONGEST_CHAIN} policies"));
        }
        if !sources.contains_key(parent.as_str()) {
            return refused(format!("there is no policy {:?}", parent.as_str()));
        }
        parent.as_str().clone_into(&mut next);
    }
    Ok(chain)
}

fn merge(into: &mut Table, from: &Table) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            _ => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Whether `table` sets `key`, something beneath it, or a whole table that holds it.
fn sets(table: &Table, key: &str) -> bool {
    let (name, rest) = match key.split_once('.') {
        Some((name, rest)) => (name, Some(rest)),
        None => (key, None),
    };
    match (table.get(name), rest) {
        (None, _) => false,
        (Some(Value::Table(inner)), Some(rest)) => sets(inner, rest),
        (Some(_), None) => true,
        (Some(_), Some(_)) => false,
    }
}
