//! Places that tenants share: those of readers of output, which cost memory as long as they read, those of connections,
//! and the bytes that calls under way hold.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use super::core::lock;

/// Places of one kind, of all tenants and of each.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    /// Clients are told apart, so one of them must not take all places.
    several: bool,
    taken: AtomicUsize,
    /// A tenant that nobody asks for and that has none is not in it.
    of: Mutex<HashMap<String, Weak<Own>>>,
}

/// One tenant's part of them.
#[derive(Debug, Clone)]
pub(super) struct Share(Arc<Own>);

#[derive(Debug)]
struct Own {
    places: Arc<Places>,
    tenant: String,
    taken: AtomicUsize,
}

/// Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    share: Share,
    count: AtomicUsize,
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
            taken: AtomicUsize::new(0),
            of: Mutex::default(),
        }
    }

    /// Takes a lock, which [`Share::take`] does not.
    pub(super) fn share(self: &Arc<Self>, tenant: &str) -> Share {
        let mut of = lock(&self.of);
        if let Some(own) = of.get(tenant).and_then(Weak::upgrade) {
            return Share(own);
        }
        let own = Arc::new(Own {
            places: Arc::clone(self),
            tenant: tenant.to_owned(),
            taken: AtomicUsize::new(0),
        });
        of.insert(tenant.to_owned(), Arc::downgrade(&own));
        Share(own)
    }

    pub(super) fn take(self: &Arc<Self>, tenant: &str) -> Result<Place, Full> {
        self.share(tenant).take(1)
    }
}

impl Share {
    pub(super) fn take(&self, count: usize) -> Result<Place, Full> {
        self.add(count)?;
        Ok(Place {
            share: self.clone(),
            count: AtomicUsize::new(count),
        })
    }

    /// A tenant may have as many places as are still free: there are always some left for the next one.
    fn add(&self, count: usize) -> Result<(), Full> {
        let Own { places, taken, .. } = &*self.0;
        // Taken first and given back where that was too much: two who come together may both be refused the last place,
        // and never both have it.
        let free = places
            .most
            .saturating_sub(places.taken.fetch_add(count, Ordering::Relaxed));
        let own = taken.fetch_add(count, Ordering::Relaxed);
        let full = if count > free {
            Full::ForAll
        } else if places.several && own + count > free {
            Full::ForTenant
        } else {
            return Ok(());
        };
        self.give_back(count);
        Err(full)
    }

    fn give_back(&self, count: usize) {
        self.0.taken.fetch_sub(count, Ordering::Relaxed);
        self.0.places.taken.fetch_sub(count, Ordering::Relaxed);
    }
}

impl Place {
    /// Takes more, which go with it.
    pub(super) fn grow(&self, count: usize) -> Result<(), Full> {
        self.share.add(count)?;
        self.count.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.share.give_back(*self.count.get_mut());
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let mut of = lock(&self.places.of);
        // The tenant may be back already.
        if of.get(&self.tenant).is_some_and(|own| own.strong_count() == 0) {
            of.remove(&self.tenant);
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
    fn one_place_may_be_large_and_grow() {
        let places = Arc::new(Places::new(100, true));
        let (a, b) = (places.share("a"), places.share("b"));
        let place = a.take(30).expect("free");
        place.grow(20).expect("half of all");
        assert_eq!(place.grow(1).expect_err("for others"), Full::ForTenant);
        assert_eq!(b.take(51).expect_err("not free"), Full::ForAll);
        let other = b.take(25).expect("half of the rest");
        drop(place);
        assert_eq!(places.taken.load(Ordering::Relaxed), 25);
        drop((other, a, b));
        assert_eq!(places.taken.load(Ordering::Relaxed), 0);
        assert!(lock(&places.of).is_empty());
    }

    #[test]
    fn the_only_place_is_anybodys() {
        let places = Arc::new(Places::new(1, true));
        let _place = places.take("a").expect("free");
        assert_eq!(places.take("b").expect_err("none is left"), Full::ForAll);
    }
}
