use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use stockade::config::{Config, Reread};
use stockade::isolation::ipc::{Channel, Event, KnownJob, Launch, Leftover, Order, TransportError, pair};
use stockade::job::{
    Cause, ExitRecord, IsolationCeiling, JobId, Output, Receipt, StartStep, Stop, StopOrder, StreamTotals,
    Timestamp,
};

use super::jobs::{exit_record, known};

/// Stands in for the launcher and its supervisors. What it knows outlives the server, as theirs does.
///
/// What a job does is told by its first argument: `true`, `exit N`, `echo TEXT`, `sleep` (until stopped),
/// `stubborn` (needs to be killed), `missing` (cannot be executed), `held` (never starts by itself).
#[derive(Clone)]
pub struct FakeLauncher {
    config: Config,
    jobs_dir: PathBuf,
    state: Arc<Mutex<State>>,
    launches: Arc<AtomicUsize>,
}

#[derive(Default)]
struct State {
    channel: Option<Arc<Channel>>,
    known: HashMap<JobId, KnownJob>,
    stops: Vec<(JobId, StopOrder)>,
    signals: Vec<(JobId, i32)>,
    /// Jobs that a server has asked for at its start.
    described: Vec<JobId>,
    /// Folders and outputs that the host does not let go.
    stuck: Vec<JobId>,
    /// These end right after the next answer to a list.
    end_with_list: Vec<JobId>,
    /// Orders are left unanswered.
    deaf: bool,
    /// So long it takes to remove a folder.
    removal: Duration,
}

impl FakeLauncher {
    pub fn new(config: &Config) -> Self {
        let jobs_dir = config.worker.state_dir.join("jobs");
        fs::create_dir_all(&jobs_dir).expect("jobs folder");
        Self {
            config: config.clone(),
            jobs_dir,
            state: Arc::default(),
            launches: Arc::default(),
        }
    }

    /// The server's end of a new connection, and the thread that serves ours until the server is gone.
    pub fn connect(&self) -> (Channel, JoinHandle<()>) {
        let (ours, theirs) = pair().expect("pair");
        let ours = Arc::new(ours);
        self.lock().channel = Some(Arc::clone(&ours));
        let launcher = self.clone();
        let thread = std::thread::spawn(move || launcher.serve(&ours));
        (theirs, thread)
    }

    /// Closes the connection as a launcher's death does.
    pub fn die(&self) {
        let channel = self.lock().channel.take();
        if let Some(channel) = channel {
            // The thread holds the descriptor, too.
            rustix::net::shutdown(channel.as_fd(), rustix::net::Shutdown::Both).expect("shutdown");
        }
    }

    /// How many jobs were launched in all.
    pub fn launches(&self) -> usize {
        self.launches.load(Ordering::SeqCst)
    }

    pub fn stops(&self) -> Vec<(JobId, StopOrder)> {
        self.lock().stops.clone()
    }

    pub fn signals(&self) -> Vec<(JobId, i32)> {
        self.lock().signals.clone()
    }

    pub fn knows(&self, id: JobId) -> bool {
        self.lock().known.contains_key(&id)
    }

    pub fn described(&self) -> Vec<JobId> {
        self.lock().described.clone()
    }

    /// From now on nothing of this job can be removed.
    pub fn hold_fast(&self, id: JobId) {
        self.lock().stuck.push(id);
    }

    /// What was held fast is let go; a folder that was to be removed goes.
    pub fn let_go(&self, id: JobId) {
        self.lock().stuck.retain(|other| *other != id);
        self.delete(id);
        self.send(&Event::CleanUp(Vec::new()));
    }

    pub fn take_for_removals(&self, removal: Duration) {
        self.lock().removal = removal;
    }

    pub fn set_deaf(&self, deaf: bool) {
        self.lock().deaf = deaf;
    }

    /// Knows of as many jobs more, of which no server knows.
    pub fn know(&self, number: usize) {
        let jobs = std::iter::repeat_with(|| known(JobId::random(), Timestamp::now()));
        let jobs = jobs.take(number).map(|job| (job.id, job));
        self.lock().known.extend(jobs);
    }

    /// Forgets a job without a word, as a host that lost its state folder would.
    pub fn forget(&self, id: JobId) {
        self.lock().known.remove(&id);
    }

    /// Ends jobs in the moment in which a new server learns of them.
    pub fn end_with_list(&self, ids: &[JobId]) {
        self.lock().end_with_list = ids.to_vec();
    }

    /// Appends to a job's output.
    pub fn write(&self, id: JobId, stream: &str, bytes: &[u8]) {
        OpenOptions::new()
            .append(true)
            .open(self.folder(id).join(stream))
            .and_then(|mut file| file.write_all(bytes))
            .expect("write output");
    }

    /// Ends a job, the last `dropped` bytes of its standard output not kept.
    pub fn finish_dropping(&self, id: JobId, cause: Cause, dropped: u64) {
        let mut record = exit_record(cause, Timestamp::now());
        record.output = Output {
            stdout: self.totals(id, "stdout", dropped),
            stderr: self.totals(id, "stderr", 0),
        };
        self.finish_with(id, record);
    }

    pub fn finish(&self, id: JobId, cause: Cause) {
        self.finish_dropping(id, cause, 0);
    }

    pub fn finish_with(&self, id: JobId, record: ExitRecord) {
        if let Some(known) = self.lock().known.get_mut(&id) {
            known.record = Some(record.clone());
        }
        self.send(&Event::Finished {
            id,
            record: Box::new(record),
        });
    }

    /// Starts a `held` job.
    pub fn start_held(&self, id: JobId) {
        self.started(id);
    }

    fn serve(&self, channel: &Channel) {
        loop {
            match channel.try_receive::<Order>() {
                Ok(Some(order)) => self.obey(order),
                Ok(None) => {
                    let mut waiting = [PollFd::new(channel, PollFlags::IN)];
                    poll(&mut waiting, None).expect("poll");
                }
                Err(TransportError::Closed) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn obey(&self, order: Order) {
        if self.lock().deaf {
            return;
        }
        match order {
            Order::Launch(launch) => self.launch(&launch),
            Order::Stop { id, order } => self.stop(id, order),
            Order::Signal { id, signal } => self.lock().signals.push((id, signal.number())),
            Order::Recorded { .. } => {}
            Order::Delete { id } => self.delete(id),
            Order::List => {
                let known: Vec<JobId> = self.lock().known.keys().copied().collect();
                for piece in known.chunks(2) {
                    self.send(&Event::Listed(piece.to_vec()));
                }
                self.send(&Event::Listed(Vec::new()));
            }
            Order::Describe { ids } => {
                self.lock().described.extend(&ids);
                for id in ids {
                    let known = self.lock().known.get(&id).cloned();
                    if let Some(known) = known {
                        self.send(&Event::Known(vec![known]));
                    }
                }
                self.send(&Event::Known(Vec::new()));
                let ending = std::mem::take(&mut self.lock().end_with_list);
                for id in ending {
                    self.finish(id, Cause::Exited { code: 9 });
                }
            }
            Order::DropOutput { id } => self.drop_output(id),
            Order::Reload => self.send(&Event::Reloaded {
                policies: Vec::new(),
                error: None,
            }),
            Order::Reread => self.send(&Event::Reread(Box::new(Reread::of(&self.config)))),
            Order::Probe => self.send(&Event::Host {
                abilities: Vec::new(),
                ceiling: IsolationCeiling {
                    landlock_abi: 5,
                    cgroups: true,
                },
            }),
        }
    }

    fn launch(&self, launch: &Launch) {
        let id = launch.id;
        self.lock().known.insert(
            id,
            KnownJob {
                tenant: launch.tenant.clone(),
                idempotency_key: launch.idempotency_key.clone(),
                ..known(id, launch.created_at)
            },
        );
        let folder = self.folder(id);
        fs::create_dir(&folder).expect("job folder");
        fs::write(folder.join("stdout"), "").expect("stdout");
        fs::write(folder.join("stderr"), "").expect("stderr");
        // Only now: who counts launches goes on with these jobs.
        self.launches.fetch_add(1, Ordering::SeqCst);
        let word = |index: usize| launch.request.argv.get(index).map_or("", String::as_str);
        match word(0) {
            "held" => {}
            "missing" | "/missing" => self.finish(
                id,
                Cause::StartFailed {
                    step: StartStep::Exec,
                    errno: libc::ENOENT,
                    detail: word(0).to_owned(),
                },
            ),
            command => {
                self.started(id);
                match command {
                    "sleep" | "stubborn" => {}
                    "exit" => self.finish(
                        id,
                        Cause::Exited {
                            code: word(1).parse().expect("exit code"),
                        },
                    ),
                    "echo" => {
                        self.write(id, "stdout", word(1).as_bytes());
                        self.finish(id, Cause::Exited { code: 0 });
                    }
                    _ => self.finish(id, Cause::Exited { code: 0 }),
                }
                if command == "stubborn" {
                    self.write(id, "stderr", b"stubborn");
                }
            }
        }
    }

    fn started(&self, id: JobId) {
        let started_at = Timestamp::now();
        let receipt = Box::new(Receipt {
            host_uid: 4711,
            ..Receipt::default()
        });
        if let Some(known) = self.lock().known.get_mut(&id) {
            known.started_at = Some(started_at);
            known.receipt = Some(receipt.clone());
        }
        self.send(&Event::Started {
            id,
            started_at,
            receipt,
        });
    }

    fn stop(&self, id: JobId, order: StopOrder) {
        self.lock().stops.push((id, order.clone()));
        let stubborn = fs::read(self.folder(id).join("stderr")).is_ok_and(|text| text == b"stubborn");
        let running = self
            .lock()
            .known
            .get(&id)
            .is_some_and(|known| known.record.is_none());
        if !running {
            return self.send(&Event::Unknown { id });
        }
        let signal = if stubborn { libc::SIGKILL } else { libc::SIGTERM };
        let mut record = exit_record(
            Cause::Stopped {
                signal: Some(signal),
                code: None,
            },
            Timestamp::now(),
        );
        record.stop = Some(Stop {
            by: order.by,
            reason: order.reason,
            escalated: stubborn,
            killed: u32::from(stubborn),
        });
        record.output.stdout = self.totals(id, "stdout", 0);
        record.output.stderr = self.totals(id, "stderr", 0);
        self.finish_with(id, record);
    }

    fn delete(&self, id: JobId) {
        if self.lock().stuck.contains(&id) {
            self.send(&Event::CleanUp(vec![Leftover {
                what: format!("folder of job {id}: held fast"),
                tenant: Some("default".to_owned()),
            }]));
            return self.send(&Event::DeletedLater { id });
        }
        let removal = self.lock().removal;
        std::thread::sleep(removal);
        let known = self.lock().known.remove(&id).is_some();
        let _ = fs::remove_dir_all(self.folder(id));
        self.send(&if known {
            Event::Deleted { id }
        } else {
            Event::Unknown { id }
        });
    }

    fn drop_output(&self, id: JobId) {
        if self.lock().stuck.contains(&id) {
            let why = "held fast".to_owned();
            return self.send(&Event::OutputStays { id, why });
        }
        for stream in ["stdout", "stderr"] {
            let _ = fs::remove_file(self.folder(id).join(stream));
        }
        self.send(&Event::OutputDropped { id });
    }

    fn totals(&self, id: JobId, stream: &str, dropped: u64) -> StreamTotals {
        let kept = fs::metadata(self.folder(id).join(stream)).map_or(0, |found| found.len());
        StreamTotals {
            total_bytes: kept + dropped,
            dropped_bytes: dropped,
            sha256: String::new(),
        }
    }

    fn folder(&self, id: JobId) -> PathBuf {
        self.jobs_dir.join(id.to_string())
    }

    fn send(&self, event: &Event) {
        let channel = self.lock().channel.clone();
        let Some(channel) = channel else { return };
        loop {
            match channel.try_send(event) {
                Ok(true) | Err(TransportError::Closed) => return,
                Ok(false) => {
                    let mut room = [PollFd::new(&*channel, PollFlags::OUT)];
                    poll(&mut room, None).expect("poll");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under the lock")
    }
}
