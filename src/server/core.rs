use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::config::{Config, Reread};
use crate::isolation::ipc::{Channel, Event, HostAbility, Order, TransportError};
use crate::job::IsolationCeiling;
use crate::policy::{PolicySet, Site};

use super::ServerError;
use super::jobs::Jobs;
use super::launcher::Launcher;
use super::memory;
use super::output::Outputs;
use super::places::Places;
use super::removal::{FolderRemoval, OutputRemoval, Removals};
use super::store::{Change, Store};
use super::take_up::TakeUp;
use super::tenant::Operators;

/// The launcher is local and answers at once; one that does not is broken.
pub(super) const LAUNCHER_ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// The server without its network side: what the RPCs delegate to.
///
/// [`Server::start_up`] makes one that works with the launcher at the other end of a channel.
#[derive(Debug)]
pub struct Server {
    pub(super) jobs: Arc<Jobs>,
    pub(super) store: Arc<Store>,
    pub(super) launcher: Launcher,
    pub(super) outputs: Outputs,
    pub(super) readers: Arc<Places>,
    pub(super) operators: Operators,
    pub(super) site: Site,
    pub(super) max_running: u32,
    policies: RwLock<Arc<PolicySet>>,
    closing: watch::Sender<bool>,
    pub(super) drained: watch::Sender<bool>,
    /// `None` until the launcher has told.
    host: watch::Sender<Option<Host>>,
    pub(super) removals: Removals,
    /// Until it is done.
    pub(super) taking_up: Mutex<Option<TakeUp>>,
    /// Who waits for the launcher's answer.
    rereading: Mutex<Option<oneshot::Sender<Reread>>>,
}

/// What the launcher has found out about the host.
#[derive(Debug)]
struct Host {
    abilities: Vec<HostAbility>,
    ceiling: IsolationCeiling,
}

impl Server {
    /// Opens the store, connects to the launcher, and takes up the jobs of an earlier run.
    ///
    /// The second value ends, with the reason, when the launcher is gone: nothing works then.
    pub async fn start_up(
        config: &Config,
        channel: Channel,
    ) -> Result<(Arc<Self>, oneshot::Receiver<TransportError>), ServerError> {
        let config = &Config {
            worker: memory::fitting(&config.worker),
            ..config.clone()
        };
        let state_dir = &config.worker.state_dir;
        let store = Arc::new(Store::open(&state_dir.join("server"), config.worker.durability)?);
        let launcher = Launcher::new(channel)?;
        let server = Arc::new(Self {
            jobs: Arc::new(Jobs::new(config, Arc::clone(&store), launcher.clone())),
            store,
            launcher,
            outputs: Outputs::new(&state_dir.join("jobs"))?,
            operators: Operators::of(config),
            readers: Arc::new(Places::new(memory::readers(), config.tells_tenants_apart())),
            site: Site {
                default_policy: config.worker.default_policy.clone(),
                scripts_dir: config.worker.scripts_dir.clone(),
            },
            max_running: config.worker.max_running,
            policies: RwLock::new(Arc::new(load_policies(config)?)),
            closing: watch::Sender::new(false),
            drained: watch::Sender::new(false),
            host: watch::Sender::new(None),
            removals: Removals::default(),
            taking_up: Mutex::default(),
            rereading: Mutex::default(),
        });
        let mut lost = server.connect();
        tokio::select! {
            taken_up = server.take_up() => taken_up?,
            // Not waited out: the next server needs this one's socket.
            reason = &mut lost => return Err(reason.unwrap_or(TransportError::Closed).into()),
        }
        // Records that were made again are found by the first who asks. A disk that is full keeps nobody from asking.
        if let Err(error) = server.store.sync().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "recording what has been taken up"
            );
        }
        for id in server.store.buried()? {
            server.launcher.send(&Order::Delete { id });
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

    pub(super) fn handle(&self, event: Event) {
        let Some(event) = self.for_now(event) else {
            return;
        };
        match event {
            Event::Started {
                id,
                started_at,
                receipt,
            } => self.jobs.started(id, started_at, *receipt),
            Event::Finished { id, record } => self.jobs.finished(id, *record),
            Event::Unknown { id } => {
                self.jobs.unknown(id);
                self.removals.folder(id, FolderRemoval::Done);
            }
            Event::Deleted { id } => {
                self.removals.folder(id, FolderRemoval::Done);
                self.store.write_lazily(Change::Unbury(id));
            }
            Event::DeletedLater { id } => self.removals.folder(id, FolderRemoval::Later),
            Event::OutputDropped { id } => self.removals.output(id, OutputRemoval::Done),
            Event::OutputStays { id, why } => {
                tracing::warn!(job = %id, why, "its output cannot be removed");
                self.removals.output(id, OutputRemoval::Stays);
            }
            Event::Listed(piece) => self.listed(&piece),
            Event::Known(piece) => self.known(piece),
            Event::CleanUp(leftovers) => self.removals.set_leftovers(leftovers),
            Event::Reloaded { policies, error } => match error {
                None => tracing::info!(?policies, "the launcher has read the policies"),
                Some(error) => tracing::error!(error, "the launcher keeps its old policies"),
            },
            Event::Reread(reread) => {
                if let Some(asked) = lock(&self.rereading).take() {
                    let _ = asked.send(*reread);
                }
            }
            Event::Host { abilities, ceiling } => {
                self.host.send_replace(Some(Host { abilities, ceiling }));
            }
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

    /// What the launcher reads again; `None` where it does not answer.
    pub(super) async fn reread(&self) -> Option<Reread> {
        let (asked, answer) = oneshot::channel();
        *lock(&self.rereading) = Some(asked);
        self.launcher.send(&Order::Reread);
        let answer = tokio::time::timeout(LAUNCHER_ANSWERS_WITHIN, answer).await;
        answer.ok()?.ok()
    }

    /// The scripts that requests name by path.
    #[must_use]
    pub fn scripts_dir(&self) -> Option<&Path> {
        self.site.scripts_dir.as_deref()
    }

    pub(super) fn host_abilities(&self) -> Vec<HostAbility> {
        let host = self.host.borrow();
        host.as_ref().map_or_else(Vec::new, |host| host.abilities.clone())
    }

    /// What jobs can have at most on this host; `None` where the launcher does not tell.
    pub(super) async fn ceiling(&self) -> Option<IsolationCeiling> {
        let mut host = self.host.subscribe();
        let told = tokio::time::timeout(LAUNCHER_ANSWERS_WITHIN, host.wait_for(Option::is_some)).await;
        told.ok()?.ok()?.as_ref().map(|host| host.ceiling)
    }

    /// Ends all calls that wait for something, so that the process can go.
    pub fn close(&self) {
        self.jobs.close();
        self.closing.send_replace(true);
    }

    /// Resolves when no more jobs are admitted, at a client's word.
    pub(super) async fn draining(&self) {
        let _ = self.drained.subscribe().wait_for(|drained| *drained).await;
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

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No panic under any of these locks leaves a value half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
