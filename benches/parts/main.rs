//! The parts of a launch, each by itself: for who changes one of them. What they come to together is `--bench peers`.
//!
//!     cargo bench --bench parts                       all of them, in two minutes
//!     cargo bench --bench parts -- messages           those whose name has this in it
//!     cargo bench --bench parts -- --save-baseline a  to compare with: `-- --baseline a`
//!
//! Those of the kernel need root.

mod decisions;
mod kernel;
mod messages;

use std::time::Duration;

use criterion::Criterion;
use stockade::job::JobRequest;
use stockade::policy::{Policy, PolicySet, Resolved, Site, Tenant};

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .configure_from_args();
    decisions::measure(&mut criterion);
    messages::measure(&mut criterion);
    if rustix::process::geteuid().is_root() {
        kernel::measure(&mut criterion);
    } else {
        eprintln!("parts: without root those of the kernel are left out");
    }
    criterion.final_summary();
}

/// A worker's policies and what else it decides by.
struct Worker {
    policies: PolicySet,
    site: Site,
    tenant: Tenant,
}

impl Worker {
    fn new() -> Self {
        let policies = PolicySet::built_in();
        assert!(policies.get("default").map(Policy::name).is_some());
        Self {
            policies,
            site: Site {
                default_policy: "default".to_owned(),
                scripts_dir: None,
            },
            tenant: Tenant {
                name: "default".to_owned(),
            },
        }
    }

    fn resolve(&self, request: &JobRequest) -> Resolved {
        let resolved = self.policies.resolve(request, &self.site, &self.tenant);
        resolved.expect("the policy allows it")
    }
}

/// One such as a CI runner makes.
fn request() -> JobRequest {
    let mut request = JobRequest {
        argv: ["bash", "-c", "make test"].map(str::to_owned).to_vec(),
        ..JobRequest::default()
    };
    request.env.insert("LANG".to_owned(), "C.UTF-8".to_owned());
    request.labels.insert("build".to_owned(), "42".to_owned());
    request
}
