//! Values of options: the text that a person writes, parsed when the command line is.

use crate::job::{Network, OnOutputLimit, Signal};
use crate::proto::v1::State;

/// `K=V`, for labels.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("not of the form KEY=VALUE".to_owned()),
    }
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
