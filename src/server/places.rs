//! Places that tenants share: those of readers of output, which cost memory as long as they read, and those of connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::core::lock;

/// Places of one kind, of all tenants and of each.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    /// Clients are told apart, so one of them must not take all places.
    several: bool,
    /// A tenant that has none is not in it.
    of: Mutex<HashMap<String, usize>>,
}

/// Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    tenant: String,
}

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    ForAll,
    ForTenant,
}

impl Places {
    pub(super) fn new(most: usize, several: bool) -> Self {
        Self {
            most,
            several,
            of: Mutex::default(),
        }
    }

    /// A tenant may have as many places as are still free: there are always some left for the next one.
    pub(super) fn take(self: &Arc<Self>, tenant: &str) -> Result<Place, Full> {
        let mut of = lock(&self.of);
        let free = self.most.saturating_sub(of.values().sum());
        let own = of.get(tenant).copied().unwrap_or(0);
        if free == 0 {
            return Err(Full::ForAll);
        }
        if self.several && own >= free {
            return Err(Full::ForTenant);
        }
        of.insert(tenant.to_owned(), own + 1);
        Ok(Place {
            places: Arc::clone(self),
            tenant: tenant.to_owned(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut of = lock(&self.places.of);
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

    fn as_many_as_it_gets(places: &Arc<Places>, tenant: &str) -> Vec<Place> {
        std::iter::from_fn(|| places.take(tenant).ok()).collect()
    }

    #[test]
    fn a_tenant_leaves_places_for_others() {
        let places = Arc::new(Places::new(8, true));
        let greedy = as_many_as_it_gets(&places, "greedy");
        let greedier = as_many_as_it_gets(&places, "greedier");
        let modest = as_many_as_it_gets(&places, "modest");
        assert_eq!((greedy.len(), greedier.len(), modest.len()), (4, 2, 1));
    }

    #[test]
    fn clients_that_are_not_told_apart_have_all_places() {
        let places = Arc::new(Places::new(8, false));
        assert_eq!(as_many_as_it_gets(&places, "default").len(), 8);
    }

    #[test]
    fn a_place_comes_back_and_leaves_nothing() {
        let places = Arc::new(Places::new(2, true));
        let place = places.take("a").expect("free");
        assert_eq!(places.take("a").expect_err("for others"), Full::ForTenant);
        drop(place);
        assert!(lock(&places.of).is_empty());
        places.take("a").expect("free again");
    }

    #[test]
    fn the_only_place_is_anybodys() {
        let places = Arc::new(Places::new(1, true));
        let _place = places.take("a").expect("free");
        assert_eq!(places.take("b").expect_err("none is left"), Full::ForAll);
    }
}
