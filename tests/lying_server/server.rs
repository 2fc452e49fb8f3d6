//! What a server does, lying or not: it gives orders and hears of events.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use stockade::isolation::ipc::{Channel, Event, Launch, Order};
use stockade::job::{Cause, ExitRecord, JobId, JobRequest, Receipt, Signal, StartStep, StopOrder, Timestamp};

use crate::PATIENCE;

pub(crate) struct LyingServer {
    pub(crate) channel: Channel,
    pub(crate) launched: RefCell<Vec<JobId>>,
    pub(crate) jobs: PathBuf,
    pub(crate) dir: PathBuf,
}

impl LyingServer {
    pub(crate) fn send(&self, order: &Order) {
        let bytes = postcard::to_stdvec(order).expect("encodes");
        let deadline = Instant::now() + PATIENCE;
        while !self.channel.try_send_bytes(&bytes).expect("send") {
            assert!(Instant::now() < deadline, "the launcher takes nothing");
            let _ = self.channel.try_receive::<Event>();
        }
    }

    /// The first event that `pick` takes; others are passed over.
    pub(crate) fn until<T>(&self, what: &str, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.channel.try_receive::<Event>().expect("an event") {
                Some(event) => {
                    if let Some(found) = pick(event) {
                        return found;
                    }
                }
                None => {
                    assert!(Instant::now() < deadline, "never came: {what}");
                    wait_for(&self.channel, 100);
                }
            }
        }
    }

    /// Passes over everything up to the answer of an order that comes after all before it.
    pub(crate) fn settle(&self) {
        self.send(&Order::Probe);
        self.until("the host", |event| {
            matches!(event, Event::Host { .. }).then_some(())
        });
    }

    /// An id that the launcher still has is passed over without a word.
    pub(crate) fn wait_until_forgotten(&self, id: JobId) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "it is never forgotten");
            self.send(&Order::Signal {
                id,
                signal: Signal::TERM,
            });
            self.send(&Order::Probe);
            let forgotten = self.until("an answer", |event| match event {
                Event::Unknown { .. } => Some(true),
                Event::Host { .. } => Some(false),
                _ => None,
            });
            if forgotten {
                return self.settle();
            }
        }
    }

    /// What the launcher keeps of a job in memory.
    pub(crate) fn control(&self, id: JobId) -> Option<PathBuf> {
        ["/run/stockade", "/dev/shm/stockade"].iter().find_map(|base| {
            let workers = fs::read_dir(base).into_iter().flatten().flatten();
            let mut folders = workers.map(|worker| worker.path().join(id.to_string()));
            folders.find(|folder| folder.exists())
        })
    }

    pub(crate) fn run(&self, id: JobId, request: &JobRequest) -> ExitRecord {
        self.launched.borrow_mut().push(id);
        self.send(&Order::Launch(Box::new(launch(id, request))));
        self.finished(id)
    }

    pub(crate) fn finished(&self, id: JobId) -> ExitRecord {
        self.until("the end of a job", |event| match event {
            Event::Finished { id: told, record } if told == id => Some(*record),
            _ => None,
        })
    }

    /// No job comes of it, and no folder.
    pub(crate) fn assert_refused(&self, lie: Launch, what: &str) {
        let id = lie.id;
        self.send(&Order::Launch(Box::new(lie)));
        let record = self.finished(id);
        let step = match &record.cause {
            Cause::StartFailed { step, .. } => *step,
            other => panic!("{what}: {other:?}"),
        };
        assert_eq!(
            (step, &record.receipt),
            (StartStep::Policy, &Receipt::default()),
            "{what}"
        );
        assert!(
            !self.jobs.join(id.to_string()).exists() && self.control(id).is_none(),
            "{what}"
        );
    }

    pub(crate) fn start_sleeper(&self) -> JobId {
        let id = JobId::random();
        self.launched.borrow_mut().push(id);
        self.send(&Order::Launch(Box::new(launch(id, &request(&["sleep", "60"])))));
        self.until("a start", |event| {
            matches!(event, Event::Started { id: told, .. } if told == id).then_some(())
        });
        id
    }

    pub(crate) fn stop(&self, id: JobId) {
        let order = StopOrder {
            grace_ms: Some(0),
            ..StopOrder::nameless()
        };
        self.send(&Order::Stop { id, order });
        let record = self.finished(id);
        assert!(matches!(record.cause, Cause::Stopped { .. }), "{record:?}");
        assert_eq!(record.stop.expect("a stop").reason, "");
    }
}

fn wait_for(channel: &Channel, milliseconds: i64) {
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: milliseconds * 1_000_000,
    };
    let _ = poll(&mut [PollFd::new(channel, PollFlags::IN)], Some(&timeout));
}

pub(crate) fn request(words: &[&str]) -> JobRequest {
    JobRequest {
        argv: words.iter().map(|word| (*word).to_owned()).collect(),
        ..JobRequest::default()
    }
}

pub(crate) fn path_request(path: &str) -> JobRequest {
    JobRequest {
        path: Some(path.to_owned()),
        ..request(&["bash"])
    }
}

pub(crate) fn launch(id: JobId, request: &JobRequest) -> Launch {
    Launch {
        id,
        tenant: "default".to_owned(),
        created_at: Timestamp::now(),
        request: request.clone(),
        idempotency_key: None,
    }
}
