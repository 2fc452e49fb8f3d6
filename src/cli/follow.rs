//! A job's output passed through byte for byte, across lost connections.

use std::io::{self, Write};

use tonic::{Code, Status};

use super::client::{Patience, Worker, connection_lost, names_field};
use super::error::CliError;
use super::print::note;
use crate::proto::v1::stream_output_response::Part;
use crate::proto::v1::{End, Stream, StreamOutputRequest};

/// Which output of which job.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    pub(super) job_id: String,
    /// Empty: both.
    pub(super) streams: Vec<Stream>,
    /// Of each stream. Of both, one that ends before it is empty.
    pub(super) offset: u64,
    /// Until the job is over.
    pub(super) follow: bool,
    /// Whether a stream that nobody reads any more is an error; otherwise the rest goes on to the end.
    pub(super) needs_readers: bool,
}

const BOTH: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

/// How far a stream has been passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    next: u64,
}

/// What a part of a stream means at a cursor.
#[derive(Debug, PartialEq, Eq)]
struct Step<'a> {
    /// Bytes that cannot be had any more, by their offsets.
    gap: Option<(u64, u64)>,
    data: &'a [u8],
}

impl Cursor {
    /// Takes a chunk, without what was passed on already.
    fn chunk<'a>(&mut self, offset: u64, data: &'a [u8]) -> Step<'a> {
        let gap = self.skip(self.next, offset);
        let known = usize::try_from(self.next - offset).unwrap_or(usize::MAX);
        let data = data.get(known..).unwrap_or_default();
        self.next = self.next.saturating_add(data.len() as u64);
        Step { gap, data }
    }

    /// Goes on to `to`, and tells what is left out by that.
    fn skip(&mut self, from: u64, to: u64) -> Option<(u64, u64)> {
        let from = self.next.max(from);
        if to <= from {
            return None;
        }
        self.next = to;
        Some((from, to))
    }
}

/// Passes a job's output on to our own stdout and stderr.
#[derive(Debug)]
pub(super) struct Follower {
    worker: Worker,
    selection: Selection,
    stdout: Cursor,
    stderr: Cursor,
    /// Of both streams, those that ended before the offset.
    ended: Vec<Stream>,
    /// Whose reader has gone.
    unread: Vec<Stream>,
    patience: Patience,
}

impl Follower {
    pub(super) fn new(worker: Worker, selection: Selection, patience: Patience) -> Self {
        let start = Cursor {
            next: selection.offset,
        };
        Self {
            worker,
            selection,
            stdout: start,
            stderr: start,
            ended: Vec::new(),
            unread: Vec::new(),
            patience,
        }
    }

    /// Until the end of the stream; what the worker told there, where there was anything to ask it for.
    pub(super) async fn run(mut self) -> Result<Option<End>, CliError> {
        loop {
            let status = match self.attempt().await {
                Err(CliError::Rpc(status)) => status,
                done => return done,
            };
            if let Some(stream) = self.ended_by(&status) {
                self.ended.push(stream);
                if self.ended.len() == BOTH.len() {
                    return Ok(None);
                }
                continue;
            }
            if !connection_lost(&status) {
                return Err(status.into());
            }
            if self.patience.is_fresh() {
                note("the connection is lost, trying again");
            }
            if !self.patience.pause().await {
                return Err(status.into());
            }
        }
    }

    /// One stream, from where the last one ended.
    async fn attempt(&mut self) -> Result<Option<End>, CliError> {
        let request = StreamOutputRequest {
            job_id: self.selection.job_id.clone(),
            stdout_offset: self.stdout.next,
            stderr_offset: self.stderr.next,
            streams: self.streams().into_iter().map(Into::into).collect(),
            follow: self.selection.follow,
        };
        let mut stream = self.worker.stream_output(request).await?.into_inner();
        while let Some(message) = stream.message().await? {
            self.patience.restore();
            match message.part {
                Some(Part::Chunk(chunk)) => {
                    let which = chunk.stream();
                    let step = self.cursor(which).chunk(chunk.offset, &chunk.data);
                    tell(which, step.gap);
                    self.pass(which, step.data)?;
                }
                Some(Part::Gap(gap)) => tell(gap.stream(), self.cursor(gap.stream()).skip(gap.from, gap.to)),
                Some(Part::End(end)) => return Ok(Some(end)),
                None => {}
            }
        }
        if self.selection.follow {
            // A worker that is being stopped ends its streams in good order, but not the job.
            return Err(Status::new(Code::Unavailable, "the worker ended the stream before the job").into());
        }
        Ok(None)
    }

    /// As a request names them: none is both.
    fn streams(&self) -> Vec<Stream> {
        if self.ended.is_empty() {
            return self.selection.streams.clone();
        }
        BOTH.into_iter()
            .filter(|stream| !self.ended.contains(stream))
            .collect()
    }

    /// The stream that is shorter than the offset, by a refusal. The offset of a stream that was asked for by its name
    /// is a mistake, that of both may well suit one of them alone.
    fn ended_by(&self, status: &Status) -> Option<Stream> {
        let field = |stream| match stream {
            Stream::Stderr => "stderr_offset",
            Stream::Stdout | Stream::Unspecified => "stdout_offset",
        };
        let all = self.selection.streams.is_empty();
        BOTH.into_iter()
            .filter(|stream| all && !self.ended.contains(stream))
            .find(|&stream| names_field(status, field(stream)))
    }

    fn pass(&mut self, stream: Stream, data: &[u8]) -> Result<(), CliError> {
        if self.unread.contains(&stream) {
            return Ok(());
        }
        match pass(stream, data).map_err(CliError::Output) {
            Err(error) if error.is_broken_pipe() && !self.selection.needs_readers => {
                self.unread.push(stream);
                Ok(())
            }
            passed => passed,
        }
    }

    const fn cursor(&mut self, stream: Stream) -> &mut Cursor {
        match stream {
            Stream::Stderr => &mut self.stderr,
            Stream::Stdout | Stream::Unspecified => &mut self.stdout,
        }
    }
}

fn pass(stream: Stream, data: &[u8]) -> io::Result<()> {
    fn whole(mut to: impl Write, data: &[u8]) -> io::Result<()> {
        to.write_all(data)?;
        to.flush()
    }
    match stream {
        Stream::Stderr => whole(io::stderr().lock(), data),
        Stream::Stdout | Stream::Unspecified => whole(io::stdout().lock(), data),
    }
}

fn tell(stream: Stream, gap: Option<(u64, u64)>) {
    if let Some((from, to)) = gap {
        let name = stream.as_str_name().to_ascii_lowercase();
        note(format_args!("{name}: bytes {from} to {to} were not kept"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_in_order_are_passed_whole() {
        let mut cursor = Cursor { next: 0 };
        assert_eq!(
            cursor.chunk(0, b"abc"),
            Step {
                gap: None,
                data: b"abc"
            }
        );
        assert_eq!(
            cursor.chunk(3, b"d"),
            Step {
                gap: None,
                data: b"d"
            }
        );
        assert_eq!(cursor.next, 4);
    }

    #[test]
    fn what_was_passed_on_is_not_passed_again() {
        let mut cursor = Cursor { next: 4 };
        assert_eq!(
            cursor.chunk(2, b"cdef"),
            Step {
                gap: None,
                data: b"ef"
            }
        );
        assert_eq!(cursor.chunk(0, b"abc"), Step { gap: None, data: b"" });
        assert_eq!(cursor.next, 6);
    }

    #[test]
    fn a_hole_is_told_once() {
        let mut cursor = Cursor { next: 2 };
        assert_eq!(cursor.skip(2, 10), Some((2, 10)));
        assert_eq!(cursor.skip(2, 10), None);
        let step = cursor.chunk(12, b"x");
        assert_eq!(
            step,
            Step {
                gap: Some((10, 12)),
                data: b"x"
            }
        );
        assert_eq!(cursor.next, 13);
    }
}
