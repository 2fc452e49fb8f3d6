use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::job::{JobId, Output, State, StreamTotals};
use crate::policy::Tenant;
use crate::server::jobs::Found;
use crate::server::places::{Full, Place};
use crate::server::view::JobView;
use crate::server::{Refusal, Server};

use super::file::OutputFile;
use super::wake::Wake;
use super::{StreamName, digest};

/// Fills the first window that HTTP/2 gives: a reader that takes nothing costs one chunk. Larger ones are no faster.
const CHUNK_BYTES: usize = 64 << 10;

/// What a reader asks for.
#[derive(Debug, Clone, Default)]
pub struct OutputRequest {
    /// `None`: not this stream.
    pub stdout_offset: Option<u64>,
    pub stderr_offset: Option<u64>,
    /// Until the job is over; otherwise what is there.
    pub follow: bool,
}

/// A piece of the answer.
#[derive(Debug)]
pub enum Part {
    Chunk {
        stream: StreamName,
        /// Of the first byte, in what the job wrote.
        offset: u64,
        data: Bytes,
    },
    /// Bytes from..to were written and are not kept.
    Gap { stream: StreamName, from: u64, to: u64 },
    /// The last one.
    End { job: Box<JobView>, output: Output },
}

/// Reads one job's output for one client. It does nothing unless it is asked for the next part.
#[derive(Debug)]
pub struct OutputStream {
    server: Arc<Server>,
    folder: PathBuf,
    job: Found,
    wake: Option<Wake>,
    follow: bool,
    /// In the order in which they take their turns.
    cursors: VecDeque<Cursor>,
    ended: bool,
    _place: Place,
}

#[derive(Debug)]
struct Cursor {
    stream: StreamName,
    offset: u64,
    file: Option<OutputFile>,
    gap_told: bool,
}

impl Server {
    /// Opens a reader. An offset beyond the end of a finished job's output is refused.
    pub fn stream_output(
        self: &Arc<Self>,
        tenant: &Tenant,
        id: JobId,
        request: &OutputRequest,
    ) -> Result<OutputStream, Refusal> {
        let job = self.jobs.find(tenant, id)?;
        let place = self.readers.take(&tenant.name).map_err(too_many)?;
        let stream = OutputStream {
            server: Arc::clone(self),
            folder: self.outputs.of(id),
            job,
            wake: None,
            follow: request.follow,
            cursors: Cursor::all(request),
            ended: false,
            _place: place,
        };
        if let Found::Stored(view) = &stream.job {
            stream.check_offsets(view)?;
        }
        Ok(stream)
    }
}

impl OutputStream {
    /// The next part; `None` after [`Part::End`].
    pub async fn next(&mut self) -> Result<Option<Part>, Refusal> {
        if self.ended {
            return Ok(None);
        }
        loop {
            // Before the files are looked at: what is written or ends from here on wakes.
            let job = self.arm();
            let over = job.state == State::Finished;
            if over {
                self.check_offsets(&job)?;
            }
            if let Some(part) = self.next_kept(&job).await.map_err(|error| unreadable(&error))? {
                return Ok(Some(part));
            }
            if over || !self.follow {
                return self.end(job).await.map(Some).map_err(|error| unreadable(&error));
            }
            self.wait(&job).await?;
        }
    }

    fn arm(&mut self) -> JobView {
        if let Some(wake) = &mut self.wake {
            wake.arm();
        }
        self.job.view()
    }

    /// A chunk or a gap, if there is one to tell; the streams take turns.
    async fn next_kept(&mut self, job: &JobView) -> std::io::Result<Option<Part>> {
        for _ in 0..self.cursors.len() {
            self.cursors.rotate_left(1);
            let Some(cursor) = self.cursors.back_mut() else {
                break;
            };
            if cursor.file.is_none() {
                cursor.file = OutputFile::open(&self.folder, cursor.stream.file_name())?;
            }
            if let Some(part) = cursor.next(totals(job, cursor.stream)).await? {
                return Ok(Some(part));
            }
        }
        Ok(None)
    }

    /// Waits for a write, or for the job to be over.
    async fn wait(&mut self, job: &JobView) -> Result<(), Refusal> {
        let over = self.job.reached(State::Finished);
        match &mut self.wake {
            // The end of a job is told, too, to those who see the worker go with it.
            Some(wake) => tokio::select! {
                biased;
                _ = over => Ok(()),
                () = self.server.closing() => Err(Refusal::ShuttingDown),
                () = wake.written() => Ok(()),
            },
            // Nothing is written before the job has started.
            None if job.state == State::Pending => tokio::select! {
                _ = self.job.reached(State::Running) => Ok(()),
                () = self.server.closing() => Err(Refusal::ShuttingDown),
            },
            // What was written before the watch was set is read in the next round.
            None => match self.server.outputs.wakes.follow(&self.folder) {
                Ok(wake) => {
                    self.wake = Some(wake);
                    Ok(())
                }
                // The folder comes with the first byte.
                Err(rustix::io::Errno::NOENT) => {
                    let mut made = match self.server.outputs.follow_making(job.id()) {
                        Ok(made) => made,
                        Err(errno) => return Err(unreadable(&errno.into())),
                    };
                    made.arm();
                    if self.folder.exists() {
                        return Ok(());
                    }
                    tokio::select! {
                        biased;
                        _ = over => Ok(()),
                        () = self.server.closing() => Err(Refusal::ShuttingDown),
                        () = made.written() => Ok(()),
                    }
                }
                Err(errno) => Err(unreadable(&errno.into())),
            },
        }
    }

    async fn end(&mut self, job: JobView) -> std::io::Result<Part> {
        self.ended = true;
        self.wake = None;
        let output = match &job.exit {
            Some(exit) => Output {
                stdout: self.with_digest(StreamName::Stdout, &exit.output.stdout).await?,
                stderr: self.with_digest(StreamName::Stderr, &exit.output.stderr).await?,
            },
            None => Output {
                stdout: self.so_far(StreamName::Stdout)?,
                stderr: self.so_far(StreamName::Stderr)?,
            },
        };
        Ok(Part::End {
            job: Box::new(job),
            output,
        })
    }

    async fn with_digest(&self, stream: StreamName, totals: &StreamTotals) -> std::io::Result<StreamTotals> {
        let mut totals = totals.clone();
        if totals.sha256.is_empty() {
            let file = OutputFile::open(&self.folder, stream.file_name())?;
            totals.sha256 = digest::of_kept(file, totals.kept_bytes()).await?;
        }
        Ok(totals)
    }

    fn so_far(&self, stream: StreamName) -> std::io::Result<StreamTotals> {
        let file = OutputFile::open(&self.folder, stream.file_name())?;
        Ok(StreamTotals {
            total_bytes: file.map_or(Ok(0), |file| file.len())?,
            ..StreamTotals::default()
        })
    }

    fn check_offsets(&self, job: &JobView) -> Result<(), Refusal> {
        for cursor in &self.cursors {
            let Some(totals) = totals(job, cursor.stream) else {
                continue;
            };
            if cursor.offset > totals.total_bytes {
                return Err(Refusal::invalid(
                    match cursor.stream {
                        StreamName::Stdout => "stdout_offset",
                        StreamName::Stderr => "stderr_offset",
                    },
                    format!("beyond the {} bytes that the job wrote", totals.total_bytes),
                ));
            }
        }
        Ok(())
    }
}

impl Cursor {
    fn all(request: &OutputRequest) -> VecDeque<Self> {
        let wanted = [
            (StreamName::Stdout, request.stdout_offset),
            (StreamName::Stderr, request.stderr_offset),
        ];
        wanted
            .into_iter()
            .filter_map(|(stream, offset)| {
                offset.map(|offset| Self {
                    stream,
                    offset,
                    file: None,
                    gap_told: false,
                })
            })
            .collect()
    }

    /// `totals` are known once the job is over.
    async fn next(&mut self, totals: Option<&StreamTotals>) -> std::io::Result<Option<Part>> {
        let kept = totals.map_or(u64::MAX, StreamTotals::kept_bytes);
        let rest = kept.saturating_sub(self.offset);
        let most = usize::try_from(rest).map_or(CHUNK_BYTES, |rest| rest.min(CHUNK_BYTES));
        if let Some(file) = &self.file
            && most > 0
        {
            let data = file.read(self.offset, most).await?;
            if !data.is_empty() {
                let offset = self.offset;
                self.offset += data.len() as u64;
                let stream = self.stream;
                return Ok(Some(Part::Chunk { stream, offset, data }));
            }
        }
        Ok(totals.and_then(|totals| self.gap(totals.total_bytes)))
    }

    /// What the job wrote beyond what was kept, told once.
    fn gap(&mut self, total: u64) -> Option<Part> {
        let from = self.offset;
        if self.gap_told || from >= total {
            return None;
        }
        self.gap_told = true;
        Some(Part::Gap {
            stream: self.stream,
            from,
            to: total,
        })
    }
}

fn totals(job: &JobView, stream: StreamName) -> Option<&StreamTotals> {
    let output = &job.exit.as_ref()?.output;
    Some(match stream {
        StreamName::Stdout => &output.stdout,
        StreamName::Stderr => &output.stderr,
    })
}

fn too_many(full: Full) -> Refusal {
    const RETRY_AFTER: Duration = Duration::from_secs(5);
    Refusal::Exhausted {
        what: match full {
            Full::ForAll => "too many readers of output",
            Full::ForTenant => "too many readers of output of this tenant",
        },
        retry_after: RETRY_AFTER,
    }
}

fn unreadable(error: &std::io::Error) -> Refusal {
    Refusal::unavailable("the output cannot be read", error)
}
