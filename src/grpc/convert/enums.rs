use crate::job::{InvalidField, OnOutputLimit, State};
use crate::proto::v1;
use crate::server::OutputRequest;

use super::unknown_value;

pub(super) fn on_output_limit(value: i32) -> Result<Option<OnOutputLimit>, InvalidField> {
    match v1::OnOutputLimit::try_from(value) {
        Ok(v1::OnOutputLimit::Unspecified) => Ok(None),
        Ok(v1::OnOutputLimit::Truncate) => Ok(Some(OnOutputLimit::Truncate)),
        Ok(v1::OnOutputLimit::Kill) => Ok(Some(OnOutputLimit::Kill)),
        Err(_) => Err(unknown_value("on_output_limit", value)),
    }
}

pub(in crate::grpc) fn listed_state(value: i32) -> Result<State, InvalidField> {
    match v1::State::try_from(value) {
        Ok(v1::State::Pending) => Ok(State::Pending),
        Ok(v1::State::Running) => Ok(State::Running),
        Ok(v1::State::Stopping) => Ok(State::Stopping),
        Ok(v1::State::Finished) => Ok(State::Finished),
        Ok(v1::State::Unspecified) | Err(_) => Err(unknown_value("states", value)),
    }
}

pub(super) const fn state_to_wire(state: State) -> v1::State {
    match state {
        State::Pending => v1::State::Pending,
        State::Running => v1::State::Running,
        State::Stopping => v1::State::Stopping,
        State::Finished => v1::State::Finished,
    }
}

/// Which streams from which offsets; none named means both.
pub(in crate::grpc) fn output_request(
    request: &v1::StreamOutputRequest,
) -> Result<OutputRequest, InvalidField> {
    let mut stdout = request.streams.is_empty();
    let mut stderr = stdout;
    for &value in &request.streams {
        match v1::Stream::try_from(value) {
            Ok(v1::Stream::Stdout) => stdout = true,
            Ok(v1::Stream::Stderr) => stderr = true,
            Ok(v1::Stream::Unspecified) | Err(_) => return Err(unknown_value("streams", value)),
        }
    }
    Ok(OutputRequest {
        stdout_offset: stdout.then_some(request.stdout_offset),
        stderr_offset: stderr.then_some(request.stderr_offset),
        follow: request.follow,
    })
}
