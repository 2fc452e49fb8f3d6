//! Values of options: the text that a person writes, parsed when the command line is.

use std::collections::HashMap;

use super::error::CliError;
use crate::job::{Network, OnOutputLimit, Signal};
use crate::proto::v1::State;

/// `K=V`, for labels.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("not of the form KEY=VALUE".to_owned()),
    }
}

/// The labels that a job must have all of, so that one label has one value.
pub(super) fn all_labels(pairs: &[(String, String)]) -> Result<HashMap<String, String>, CliError> {
    let mut labels = HashMap::new();
    for (key, value) in pairs {
        if let Some(other) = labels.insert(key.clone(), value.clone())
            && other != *value
        {
            let reason = format!("{key} cannot be both {other} and {value}");
            return Err(CliError::option("--label", reason));
        }
    }
    Ok(labels)
}

pub(super) fn signal(text: &str) -> Result<Signal, String> {
    text.parse()
        .map_err(|unknown: crate::job::UnknownSignal| unknown.to_string())
}

pub(super) fn network(text: &str) -> Result<Network, String> {
    match text {
        "none" => Ok(Network::None),
        "host" => Ok(Network::Host),
        _ => Err("neither none nor host".to_owned()),
    }
}

pub(super) fn on_output_limit(text: &str) -> Result<OnOutputLimit, String> {
    match text {
        "truncate" => Ok(OnOutputLimit::Truncate),
        "kill" => Ok(OnOutputLimit::Kill),
        _ => Err("neither truncate nor kill".to_owned()),
    }
}

pub(super) fn state(text: &str) -> Result<State, String> {
    match State::from_str_name(&text.to_ascii_uppercase()) {
        Some(State::Unspecified) | None => Err("none of pending, running, stopping, finished".to_owned()),
        Some(state) => Ok(state),
    }
}
