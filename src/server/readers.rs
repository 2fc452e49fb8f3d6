//! Who may read output now: a reader costs memory and a stream as long as it lasts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Refusal;
use super::core::lock;

const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Places of readers, of all tenants and of each.
#[derive(Debug)]
pub(super) struct Readers {
    most: usize,
    /// Clients are told apart, so one of them must not take all places.
    several: bool,
    /// A tenant that reads nothing is not in it.
    of: Mutex<HashMap<String, usize>>,
}

/// Given back when it is dropped.
#[derive(Debug)]
pub(super) struct ReaderPlace {
    readers: Arc<Readers>,
    tenant: String,
}

impl Readers {
    pub(super) fn new(most: usize, several: bool) -> Self {
        Self {
            most,
            several,
            of: Mutex::default(),
        }
    }

    /// A tenant may have as many places as are still free: there are always some left for the next one.
    pub(super) fn take(self: &Arc<Self>, tenant: &str) -> Result<ReaderPlace, Refusal> {
        let mut of = lock(&self.of);
        let free = self.most.saturating_sub(of.values().sum());
        let own = of.get(tenant).copied().unwrap_or(0);
        if free == 0 {
            return exhausted("too many readers of output");
        }
        if self.several && own >= free {
            return exhausted("too many readers of output of this tenant");
        }
        of.insert(tenant.to_owned(), own + 1);
        Ok(ReaderPlace {
            readers: Arc::clone(self),
            tenant: tenant.to_owned(),
        })
    }
}

fn exhausted<T>(what: &'static str) -> Result<T, Refusal> {
    Err(Refusal::Exhausted {
        what,
        retry_after: RETRY_AFTER,
    })
}

impl Drop for ReaderPlace {
    fn drop(&mut self) {
        let mut of = lock(&self.readers.of);
        match of.get_mut(&self.tenant) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                of.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn as_many_as_it_gets(readers: &Arc<Readers>, tenant: &str) -> Vec<ReaderPlace> {
        std::iter::from_fn(|| readers.take(tenant).ok()).collect()
    }

    #[test]
    fn a_tenant_leaves_places_for_others() {
        let readers = Arc::new(Readers::new(8, true));
        let greedy = as_many_as_it_gets(&readers, "greedy");
        let greedier = as_many_as_it_gets(&readers, "greedier");
        let modest = as_many_as_it_gets(&readers, "modest");
        assert_eq!((greedy.len(), greedier.len(), modest.len()), (4, 2, 1));
    }

    #[test]
    fn clients_that_are_not_told_apart_have_all_places() {
        let readers = Arc::new(Readers::new(8, false));
        assert_eq!(as_many_as_it_gets(&readers, "default").len(), 8);
    }

    #[test]
    fn a_place_comes_back_and_leaves_nothing() {
        let readers = Arc::new(Readers::new(2, true));
        let place = readers.take("a").expect("free");
        readers.take("a").expect_err("the other one is for others");
        drop(place);
        assert!(lock(&readers.of).is_empty());
        readers.take("a").expect("free again");
    }

    #[test]
    fn the_only_place_is_anybodys() {
        let readers = Arc::new(Readers::new(1, true));
        let _place = readers.take("a").expect("free");
        readers.take("b").expect_err("none is left");
    }
}
