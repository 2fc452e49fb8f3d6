use std::collections::HashMap;

use crate::job::{
    Blob, InputFile, InvalidField, IsolationFloor, JobRequest, Network, Signal, StopOrder, check_labels,
};
use crate::proto::v1;
use crate::server::Listing;

use super::enums::on_output_limit;
use super::limits::limits_request;
use super::{given, listed_state};

/// The mode of a file that names none.
const FILE_MODE: u32 = 0o644;
const NAMESPACES: [&str; 8] = ["user", "pid", "mnt", "net", "uts", "ipc", "cgroup", "time"];

/// The request and its idempotency key. [`JobRequest::check`] does the rest.
pub(in crate::grpc) fn job_request(
    wire: v1::StartJobRequest,
) -> Result<(JobRequest, Option<String>), InvalidField> {
    let request = JobRequest {
        argv: wire.argv,
        script: blob(wire.script),
        path: given(wire.path),
        args: wire.args,
        env: wire.env.into_iter().collect(),
        files: wire.files.into_iter().map(input_file).collect(),
        stdin: blob(wire.stdin),
        working_dir: given(wire.working_dir),
        policy: given(wire.policy),
        limits: limits_request(wire.limits),
        labels: wire.labels.into_iter().collect(),
        stop_signal: parse_signal("stop_signal", &wire.stop_signal)?,
        grace_ms: wire.grace_ms,
        on_output_limit: on_output_limit(wire.on_output_limit)?,
        network: network(&wire.network)?,
        require: floor(wire.require)?,
    };
    Ok((request, given(wire.idempotency_key)))
}

/// `tenant` is whose job it is and who asks.
pub(in crate::grpc) fn stop_order(wire: v1::StopJobRequest, tenant: &str) -> Result<StopOrder, InvalidField> {
    if wire.reason.chars().any(char::is_control) {
        return Err(InvalidField::new("reason", "holds control characters"));
    }
    let order = StopOrder {
        signal: parse_signal("signal", &wire.signal)?,
        grace_ms: wire.grace_ms,
        by: tenant.to_owned(),
        reason: wire.reason,
    };
    order.check()?;
    Ok(order)
}

pub(in crate::grpc) fn parse_signal(field: &str, text: &str) -> Result<Option<Signal>, InvalidField> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse() {
        Ok(signal) => Ok(Some(signal)),
        Err(unknown) => Err(InvalidField::new(field, format!("{unknown}"))),
    }
}

pub(in crate::grpc) fn listing(wire: v1::ListJobsRequest) -> Result<Listing, InvalidField> {
    let states: Result<Vec<_>, _> = wire.states.into_iter().map(listed_state).collect();
    let after = match wire.page_token.as_str() {
        "" => None,
        token => Some(
            token
                .parse()
                .map_err(|_| InvalidField::new("page_token", "not one that this worker gave"))?,
        ),
    };
    Ok(Listing {
        states: states?,
        labels: labels(wire.labels)?,
        size: wire.page_size as usize,
        after,
    })
}

pub(in crate::grpc) fn page_token(next: Option<u64>) -> String {
    next.map(|next| next.to_string()).unwrap_or_default()
}

/// Labels to select jobs by.
pub(in crate::grpc) fn labels(wire: HashMap<String, String>) -> Result<Vec<(String, String)>, InvalidField> {
    check_labels(&wire)?;
    Ok(wire.into_iter().collect())
}

fn blob(bytes: Vec<u8>) -> Option<Blob> {
    (!bytes.is_empty()).then_some(Blob(bytes))
}

fn input_file(wire: v1::File) -> InputFile {
    InputFile {
        path: wire.path,
        content: Blob(wire.content),
        mode: if wire.mode == 0 { FILE_MODE } else { wire.mode },
    }
}

fn network(text: &str) -> Result<Option<Network>, InvalidField> {
    match text {
        "" => Ok(None),
        "none" => Ok(Some(Network::None)),
        "host" => Ok(Some(Network::Host)),
        _ => Err(InvalidField::new("network", "neither none nor host")),
    }
}

fn floor(wire: Option<v1::IsolationFloor>) -> Result<IsolationFloor, InvalidField> {
    let wire = wire.unwrap_or_default();
    let names = &wire.namespaces;
    let is_new = |(index, name): (usize, &String)| !names[..index].contains(name);
    let is_known = |name: &String| NAMESPACES.contains(&name.as_str());
    // A demand that is not understood is one that is not met.
    if !names.iter().all(is_known) || names.len() > NAMESPACES.len() || !names.iter().enumerate().all(is_new)
    {
        return Err(InvalidField::new(
            "require.namespaces",
            format!("known names, each once: {}", NAMESPACES.join(", ")),
        ));
    }
    Ok(IsolationFloor {
        namespaces: wire.namespaces,
        seccomp: wire.seccomp,
        landlock_abi: wire.landlock_abi,
        no_capabilities: wire.no_capabilities,
        cgroup_limits: wire.cgroup_limits,
    })
}
