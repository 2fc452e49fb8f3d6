//! Filters as the kernel takes them: `struct sock_filter` as one word each.

use stockade::job::JobRequest;
use stockade::policy::{PolicySet, Site, Tenant};

const LOAD: u64 = 0x20;
const JUMP_IF_EQUAL: u64 = 0x15;
const RETURN: u64 = 0x06;
const ALLOW: u64 = 0x7fff_0000;
const REFUSE: u64 = 0x0005_0001;
/// As many as a deny list of a common sandbox.
const NUMBERS: u64 = 94;
/// No call has these numbers: every call goes through the whole list.
const FIRST: u64 = 600;

/// A list, one comparison after the other, as it is written without much thought.
pub(super) fn linear() -> Vec<u64> {
    let compare = |index: u64| JUMP_IF_EQUAL | (NUMBERS - index) << 16 | (FIRST + index) << 32;
    let mut program = vec![LOAD];
    program.extend((0..NUMBERS).map(compare));
    program.extend([RETURN | ALLOW << 32, RETURN | REFUSE << 32]);
    program
}

/// The filter of the policy `default`: a search tree.
pub(super) fn of_default_policy() -> Option<Vec<u64>> {
    let request = JobRequest {
        argv: vec!["true".to_owned()],
        ..JobRequest::default()
    };
    let site = Site {
        default_policy: "default".to_owned(),
        scripts_dir: None,
    };
    let tenant = Tenant {
        name: "bench".to_owned(),
    };
    let resolved = PolicySet::built_in().resolve(&request, &site, &tenant).ok()?;
    Some(resolved.sandbox.seccomp.as_ref()?.program.clone())
}
