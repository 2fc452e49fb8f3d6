//! What server and launcher say to each other. Only typed, bounded values cross: the launcher never parses
//! a client's text, and takes from the server nothing but ids, a request and orders.

use serde::{Deserialize, Serialize};

use crate::config::Reread;
use crate::job::{
    ExitRecord, InvalidField, IsolationCeiling, JobId, JobRequest, Receipt, Signal, StopOrder, Timestamp,
    bounds, check_teller,
};

/// Server to launcher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Order {
    /// Start this job. The launcher resolves the policy by itself, from its own files.
    Launch(Box<Launch>),
    Stop {
        id: JobId,
        order: StopOrder,
    },
    Signal {
        id: JobId,
        signal: Signal,
    },
    /// How a job ended is recorded: the launcher need not keep it for a restart.
    Recorded {
        id: JobId,
    },
    /// Remove what is kept of a finished job: answered by `Deleted` or `DeletedLater`.
    Delete {
        id: JobId,
    },
    /// Remove a finished job's output and keep the rest: answered by `OutputDropped` or `OutputStays`.
    DropOutput {
        id: JobId,
    },
    /// Name all jobs that have something on disk: answered by `Listed`.
    List,
    /// Tell what is on disk of these jobs: answered by `Known`.
    Describe {
        ids: Vec<JobId>,
    },
    /// Read the policy files again: answered by `Reloaded`.
    Reload,
    /// Read the configuration and the TLS files again: answered by `Reread`.
    Reread,
    /// The host's abilities: answered by `Host`.
    Probe,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    pub id: JobId,
    pub tenant: String,
    pub created_at: Timestamp,
    pub request: JobRequest,
    /// Kept beside the job, so that a server that lost its database row can make it again.
    pub idempotency_key: Option<String>,
}

impl Launch {
    /// Refuses what no server adds to a request: it goes into files. The request itself is checked by the policy.
    pub fn check(&self) -> Result<(), InvalidField> {
        check_teller("tenant", &self.tenant)?;
        if self.tenant.is_empty() {
            return Err(InvalidField::new("tenant", "empty"));
        }
        match &self.idempotency_key {
            Some(key) if key.len() > bounds::IDEMPOTENCY_KEY_BYTES => {
                let reason = format!("more than {} bytes", bounds::IDEMPOTENCY_KEY_BYTES);
                Err(InvalidField::new("idempotency_key", reason))
            }
            _ => Ok(()),
        }
    }
}

/// Launcher to server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// The command was executed.
    Started {
        id: JobId,
        started_at: Timestamp,
        receipt: Box<Receipt>,
    },
    /// The job is over and nothing of it is left running.
    Finished {
        id: JobId,
        record: Box<ExitRecord>,
    },
    /// A stop, a signal or a delete for a job that the launcher does not have (any more).
    Unknown {
        id: JobId,
    },
    Deleted {
        id: JobId,
    },
    /// The host does not let it go now; it is on the clean-up list, and `Deleted` follows when it is gone.
    DeletedLater {
        id: JobId,
    },
    OutputDropped {
        id: JobId,
    },
    OutputStays {
        id: JobId,
        why: String,
    },
    /// In pieces, since a worker may keep more jobs than fit one message; an empty piece is the last.
    Listed(Vec<JobId>),
    /// What is known of the jobs asked for, in pieces; an empty piece is the last.
    Known(Vec<KnownJob>),
    /// All that could not be removed yet, whenever that changes.
    CleanUp(Vec<Leftover>),
    Reloaded {
        policies: Vec<String>,
        error: Option<String>,
    },
    Reread(Box<Reread>),
    Host {
        abilities: Vec<HostAbility>,
        ceiling: IsolationCeiling,
    },
}

/// A job of which something is on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownJob {
    pub id: JobId,
    pub tenant: String,
    pub policy: String,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    /// Of a job that runs.
    pub receipt: Option<Box<Receipt>>,
    pub idempotency_key: Option<String>,
    /// Of a job that runs: the last order to end it that its supervisor was given.
    pub stop: Option<StopOrder>,
    /// `None` while it runs.
    pub record: Option<ExitRecord>,
    pub origin: Origin,
}

/// Whose job it is that is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// A job that was let go.
    Launched,
    /// Its launch failed before anything was written of it but how: tenant, policy and times are empty.
    NeverLaunched,
    /// A newer worker's, whose format this one does not know. It is left alone.
    Newer,
}

/// What could not be removed yet and is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// In words, without any host path.
    pub what: String,
    /// Whose it is, where that is known.
    pub tenant: Option<String>,
}

/// One line of what the host can isolate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostAbility {
    pub name: String,
    pub status: AbilityStatus,
    /// Why, in words.
    pub detail: String,
    /// The exact command or flag that mends it; empty where nothing is to mend.
    pub mend: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AbilityStatus {
    Ok,
    Weaker,
    Missing,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An order as a server would send it, to be damaged.
    fn orders() -> impl Strategy<Value = Order> {
        let id = || any::<[u8; 16]>().prop_map(JobId::from_bytes);
        let launch = (id(), ".{0,300}", any::<Option<String>>(), "[a-z./]{0,80}").prop_map(
            |(id, tenant, key, policy)| {
                let request = JobRequest {
                    argv: vec!["true".to_owned()],
                    policy: Some(policy),
                    ..JobRequest::default()
                };
                Order::Launch(Box::new(Launch {
                    id,
                    tenant,
                    created_at: Timestamp::now(),
                    request,
                    idempotency_key: key,
                }))
            },
        );
        let stop = (id(), ".{0,600}", any::<Option<u64>>()).prop_map(|(id, reason, grace_ms)| Order::Stop {
            id,
            order: StopOrder {
                grace_ms,
                reason,
                ..StopOrder::nameless()
            },
        });
        prop_oneof![launch, stop, id().prop_map(|id| Order::Delete { id })]
    }

    /// Whatever decodes is held within bounds by the checks that the launcher makes before it acts.
    fn assert_harmless(order: &Order) {
        match order {
            Order::Launch(launch) if launch.check().is_ok() => {
                assert!((1..=bounds::TENANT_BYTES).contains(&launch.tenant.len()));
                if launch.request.check().is_ok() {
                    assert!(launch.request.argv.len() <= bounds::ARGUMENTS);
                }
                assert_eq!(
                    launch.id.to_string().parse(),
                    Ok(launch.id),
                    "one spelling, one file"
                );
            }
            Order::Stop { order, .. } if order.check().is_ok() => {
                assert!(order.reason.len() <= bounds::REASON_BYTES && order.by.len() <= bounds::TENANT_BYTES);
            }
            Order::Signal { signal, .. } => assert!((1..=64).contains(&signal.number())),
            _ => {}
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn arbitrary_bytes_are_an_error_or_a_bounded_order(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(order) = postcard::from_bytes::<Order>(&bytes) {
                assert_harmless(&order);
            }
        }

        #[test]
        fn damaged_orders_are_an_error_or_a_bounded_order(
            order in orders(),
            at in any::<proptest::sample::Index>(),
            noise in proptest::collection::vec(any::<u8>(), 0..12),
        ) {
            let mut bytes = postcard::to_stdvec(&order).expect("encodes");
            assert_harmless(&postcard::from_bytes(&bytes).expect("decodes"));
            let at = at.index(bytes.len());
            let end = (at + noise.len()).min(bytes.len());
            bytes.splice(at..end, noise);
            if let Ok(order) = postcard::from_bytes::<Order>(&bytes) {
                assert_harmless(&order);
            }
        }
    }

    /// A length that the message does not have must not be believed.
    #[test]
    fn a_length_that_is_a_lie_takes_no_memory() {
        // Launch, 16 bytes of id, then a tenant of 2^63 bytes.
        let mut bytes = vec![0, 16];
        bytes.extend([7; 16]);
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
        assert!(postcard::from_bytes::<Order>(&bytes).is_err());
    }
}
