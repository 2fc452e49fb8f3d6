use futures_util::StreamExt;
use futures_util::stream::{BoxStream, try_unfold};
use tonic::Status;

use crate::proto::v1;
use crate::server::{EventStream, OutputStream};

use super::convert::{event_to_wire, part_to_wire};

/// Answers that are made when the connection has room for one, and not before.
pub(super) type Answers<T> = BoxStream<'static, Result<T, Status>>;

pub(super) fn output(stream: OutputStream) -> Answers<v1::StreamOutputResponse> {
    try_unfold(stream, |mut stream| async move {
        let part = stream.next().await?;
        Ok(part.map(|part| (part_to_wire(part), stream)))
    })
    .boxed()
}

pub(super) fn events(stream: EventStream) -> Answers<v1::JobEvent> {
    try_unfold(stream, |mut stream| async move {
        let event = stream.next().await?;
        Ok(Some((event_to_wire(&event), stream)))
    })
    .boxed()
}
