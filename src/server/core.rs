use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot, watch};

use crate::config::Config;
use crate::isolation::ipc::{Channel, Event, HostAbility, KnownJob, Order, TransportError};
use crate::job::JobId;
use crate::policy::{PolicySet, Site};

use super::ServerError;
use super::jobs::Jobs;
use super::launcher::Launcher;
use super::memory;
use super::output::Outputs;
use super::store::{Store, StoreError};

/// The launcher is local and answers at once; one that does not is broken.
const LAUNCHER_ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// The server without its network side: what the RPCs delegate to.
///
/// [`Server::start_up`] makes one that works with the launcher at the other end of a channel.
#[derive(Debug)]
pub struct Server {
    pub(super) jobs: Arc<Jobs>,
    pub(super) store: Arc<Store>,
    pub(super) launcher: Launcher,
    pub(super) outputs: Outputs,
    pub(super) readers: Arc<Semaphore>,
    pub(super) site: Site,
    pub(super) max_running: u32,
    policies: RwLock<Arc<PolicySet>>,
    closing: watch::Sender<bool>,
    host: Mutex<Vec<HostAbility>>,
    /// Those who wait for the launcher to have removed a job.
    deletions: Mutex<HashMap<JobId, Vec<oneshot::Sender<()>>>>,
    list: Mutex<Option<List>>,
}

/// The answer to [`Order::List`], as far as it has come.
#[derive(Debug)]
struct List {
    jobs: Vec<KnownJob>,
    taken_up: oneshot::Sender<Result<(), StoreError>>,
}

impl Server {
    /// Opens the store, connects to the launcher, and takes up the jobs of an earlier run.
    ///
    /// The second value ends, with the reason, when the launcher is gone: nothing works then.
    pub async fn start_up(
        config: &Config,
        channel: Channel,
    ) -> Result<(Arc<Self>, oneshot::Receiver<TransportError>), ServerError> {
        let state_dir = &config.worker.state_dir;
        let store = Arc::new(Store::open(&state_dir.join("server"), config.worker.durability)?);
        let launcher = Launcher::new(channel)?;
        let worker = memory::fitting(&config.worker);
        let server = Arc::new(Self {
            jobs: Arc::new(Jobs::new(&worker, Arc::clone(&store), launcher.clone())),
            store,
            launcher,
            outputs: Outputs::new(&state_dir.join("jobs"))?,
            readers: Arc::new(Semaphore::new(memory::readers())),
            site: Site {
                default_policy: config.worker.default_policy.clone(),
                scripts_dir: config.worker.scripts_dir.clone(),
            },
            max_running: worker.max_running,
            policies: RwLock::new(Arc::new(load_policies(config)?)),
            closing: watch::Sender::new(false),
            host: Mutex::default(),
            deletions: Mutex::default(),
            list: Mutex::default(),
        });
        let mut lost = server.connect();
        tokio::select! {
            taken_up = server.take_up_known() => taken_up?,
            // Not waited out: the next server needs this one's socket.
            reason = &mut lost => return Err(reason.unwrap_or(TransportError::Closed).into()),
        }
        server.launcher.send(&Order::Probe);
        Ok((server, lost))
    }

    /// Starts the tasks that talk to the launcher.
    fn connect(self: &Arc<Self>) -> oneshot::Receiver<TransportError> {
        let (gone, lost) = oneshot::channel();
        let server = Arc::clone(self);
        tokio::spawn(async move {
            let launcher = server.launcher.clone();
            let error = tokio::select! {
                error = launcher.receive(|event| server.handle(event)) => error,
                error = launcher.keep_sending(|| server.jobs.launch_waiting()) => error,
            };
            let _ = gone.send(error);
        });
        lost
    }

    async fn take_up_known(&self) -> Result<(), ServerError> {
        let (taken_up, done) = oneshot::channel();
        *lock(&self.list) = Some(List {
            jobs: Vec::new(),
            taken_up,
        });
        self.launcher.send(&Order::List);
        let taken_up = tokio::time::timeout(LAUNCHER_ANSWERS_WITHIN, done)
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or(ServerError::LauncherSilent)?;
        Ok(taken_up?)
    }

    fn handle(&self, event: Event) {
        match event {
            Event::Started {
                id,
                started_at,
                receipt,
            } => self.jobs.started(id, started_at, *receipt),
            Event::Finished { id, record } => self.jobs.finished(id, *record),
            Event::Unknown { id } => {
                self.jobs.unknown(id);
                self.deleted(id);
            }
            Event::Deleted { id } => self.deleted(id),
            Event::Known(piece) => self.known(piece),
            Event::Reloaded { policies, error } => match error {
                None => tracing::info!(?policies, "the launcher has read the policies"),
                Some(error) => tracing::error!(error, "the launcher keeps its old policies"),
            },
            Event::Host { abilities } => *lock(&self.host) = abilities,
        }
    }

    /// A piece of what the launcher has on disk; only what is news to the store is kept.
    fn known(&self, piece: Vec<KnownJob>) {
        let mut list = lock(&self.list);
        if !piece.is_empty() {
            if let Some(list) = &mut *list {
                list.jobs
                    .extend(piece.into_iter().filter(|job| self.jobs.is_news(job)));
            }
        } else if let Some(list) = list.take() {
            // Before the next event: that one of these jobs has ended may be it.
            let _ = list.taken_up.send(self.jobs.take_up(list.jobs));
        }
    }

    pub(super) fn await_deletion(&self, id: JobId) -> oneshot::Receiver<()> {
        let (done, deleted) = oneshot::channel();
        lock(&self.deletions).entry(id).or_default().push(done);
        deleted
    }

    fn deleted(&self, id: JobId) {
        for waiting in lock(&self.deletions).remove(&id).unwrap_or_default() {
            let _ = waiting.send(());
        }
    }

    pub(super) fn policies(&self) -> Arc<PolicySet> {
        Arc::clone(&self.policies.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the policies again, here and at the launcher. What cannot be read changes nothing.
    pub(super) fn reload_policies(&self, config: &Config) {
        match load_policies(config) {
            Ok(policies) => {
                *self.policies.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policies);
                self.launcher.send(&Order::Reload);
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "keeping the old policies"
                );
            }
        }
    }

    /// The scripts that requests name by path.
    #[must_use]
    pub fn scripts_dir(&self) -> Option<&Path> {
        self.site.scripts_dir.as_deref()
    }

    pub(super) fn host_abilities(&self) -> Vec<HostAbility> {
        lock(&self.host).clone()
    }

    /// Ends all calls that wait for something, so that the process can go.
    pub fn close(&self) {
        self.jobs.close();
        self.closing.send_replace(true);
    }

    /// Resolves when the server closes.
    pub async fn closing(&self) {
        // An error would mean that the server is gone.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }
}

fn load_policies(config: &Config) -> Result<PolicySet, ServerError> {
    Ok(match &config.worker.policies_dir {
        Some(dir) => PolicySet::load(dir)?,
        None => PolicySet::built_in(),
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Held for single assignments only.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
