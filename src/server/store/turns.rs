use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Weak};

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::server::core::lock;

/// One thing that many use one after another: the tenants in turn, and each tenant's in the order in which they came.
///
/// Waiting holds no thread, and who waits stands behind one of each other tenant at most.
#[derive(Debug)]
pub(super) struct Turns<T> {
    all: Arc<Mutex<T>>,
    /// Those of which nobody waits go with the next new one.
    of: std::sync::Mutex<HashMap<String, Weak<Mutex<()>>>>,
}

/// Ends when it is dropped.
#[derive(Debug)]
pub(super) struct Turn<T> {
    what: OwnedMutexGuard<T>,
    _among_own: OwnedMutexGuard<()>,
}

impl<T> Turns<T> {
    pub(super) fn new(what: T) -> Self {
        Self {
            all: Arc::new(Mutex::new(what)),
            of: std::sync::Mutex::default(),
        }
    }

    pub(super) async fn next(&self, tenant: &str) -> Turn<T> {
        // Each of these locks is fair. Only the first of a tenant queues for the one of all.
        let among_own = self.queue(tenant).lock_owned().await;
        Turn {
            what: Arc::clone(&self.all).lock_owned().await,
            _among_own: among_own,
        }
    }

    fn queue(&self, tenant: &str) -> Arc<Mutex<()>> {
        let mut of = lock(&self.of);
        if let Some(queue) = of.get(tenant).and_then(Weak::upgrade) {
            return queue;
        }
        of.retain(|_, queue| queue.strong_count() > 0);
        let queue = Arc::default();
        of.insert(tenant.to_owned(), Arc::downgrade(&queue));
        queue
    }
}

impl<T> Deref for Turn<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.what
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_of_another_tenant_waits_for_one_at_most() {
        let turns = Arc::new(Turns::new(Vec::new()));
        let held = turns.next("somebody").await;
        let take = |tenant: &'static str| {
            let turns = Arc::clone(&turns);
            async move { turns.next(tenant).await.what.push(tenant) }
        };
        let mut all: Vec<_> = (0..10).map(|_| tokio::spawn(take("alice"))).collect();
        tokio::task::yield_now().await;
        all.push(tokio::spawn(take("bob")));
        tokio::task::yield_now().await;
        drop(held);
        for one in all {
            one.await.expect("its turn");
        }
        let order = turns.next("somebody").await;
        assert_eq!(order.what[..3], ["alice", "bob", "alice"]);
        assert_eq!(order.what.len(), 11);
        drop(order);
        drop(turns.next("new").await);
        assert_eq!(lock(&turns.of).len(), 1);
    }
}
