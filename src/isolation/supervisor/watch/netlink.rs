//! Netlink sockets, of which a job has a few at one time: the kernel charges what they hold unread to no cgroup, and
//! nothing but the number of descriptors would bound it.

use std::fs;

/// Programs have one for a moment, to ask for interfaces and addresses.
const MOST: usize = 16;

#[derive(Debug, Default)]
pub(super) struct NetlinkSockets {
    /// The kernel's own, which were listed before the job made one.
    before: Option<usize>,
    /// Those that the job may have.
    made: usize,
}

impl NetlinkSockets {
    /// Whether the job may make another. A few more can come to be while several of its threads make one each.
    pub(super) fn another(&mut self) -> bool {
        self.another_of(listed)
    }

    fn another_of(&mut self, listed: impl Fn() -> Option<usize>) -> bool {
        if self.before.is_none() {
            self.before = listed();
        }
        // Most are closed by then.
        if self.made >= MOST
            && let (Some(before), Some(now)) = (self.before, listed())
        {
            self.made = now.saturating_sub(before);
        }
        let may = self.made < MOST;
        self.made += usize::from(may);
        may
    }
}

/// How many there are in this network namespace, which is the job's.
fn listed() -> Option<usize> {
    let list = fs::read("/proc/self/net/netlink").ok()?;
    Some(list.iter().filter(|byte| **byte == b'\n').count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_has_a_few_at_one_time_and_any_number_one_after_another() {
        let mut sockets = NetlinkSockets::default();
        assert!((0..100).all(|_| sockets.another_of(|| Some(9))));
        let mut sockets = NetlinkSockets::default();
        assert!(sockets.another_of(|| Some(9)));
        let all_stay = || Some(9 + MOST);
        let more = (0..100).filter(|_| sockets.another_of(all_stay)).count();
        assert_eq!(more, MOST - 1);
        assert!(sockets.another_of(|| Some(9)), "they are closed");
    }

    #[test]
    fn where_none_can_be_counted_there_are_no_more() {
        let mut sockets = NetlinkSockets::default();
        assert_eq!((0..100).filter(|_| sockets.another_of(|| None)).count(), MOST);
    }

    #[test]
    fn those_of_this_namespace_are_listed() {
        assert!(listed().is_some_and(|count| count > 0));
    }
}
