//! What the kernel is asked for: of each job, of each sandbox, or once for all that are alike.

use std::collections::BTreeMap;

use criterion::Criterion;
use rustix::process::{WaitOptions, waitpid};
use stockade::isolation::cgroup::CgroupTree;
use stockade::isolation::sandbox::network::NetworkNamespace;
use stockade::isolation::sandbox::room::Room;
use stockade::isolation::sandbox::template::Template;
use stockade::sys::{self, Forked};

use super::{Worker, request};

pub(super) fn measure(criterion: &mut Criterion) {
    let resolved = Worker::new().resolve(&request());
    let mut group = criterion.benchmark_group("kernel");
    group.bench_function("a fork and its end", |bench| bench.iter(fork));
    group.bench_function("a network namespace", |bench| {
        bench.iter(|| NetworkNamespace::make().expect("a namespace"));
    });
    group.bench_function("the template of all sandboxes", |bench| {
        bench.iter(|| Template::build(&resolved.sandbox, false).expect("a template"));
    });
    let template = Template::build(&resolved.sandbox, false).expect("a template");
    group.bench_function("the room of a sandbox", |bench| {
        bench.iter(|| Room::lay(&template).expect("a room"));
    });
    match CgroupTree::open(&format!("parts-{}", std::process::id())) {
        Ok(tree) => {
            group.bench_function("a cgroup with its limits", |bench| {
                bench.iter(|| cgroup(&tree, &resolved.spec.limits));
            });
            tree.remove();
        }
        Err(error) => eprintln!("parts: no cgroup: {error}"),
    }
    group.finish();
}

fn fork() {
    // SAFETY: this process has one thread.
    match unsafe { sys::clone_into(0, None) }.expect("clone3") {
        Forked::Child => sys::exit_now(0),
        Forked::Parent(pid) => {
            waitpid(Some(pid), WaitOptions::empty()).expect("waitpid");
        }
    }
}

/// Makes it, limits it, and removes it. Gives the limits as the kernel has them.
fn cgroup(tree: &CgroupTree, limits: &stockade::job::Limits) -> BTreeMap<String, String> {
    let mut cgroup = tree.make_job("job").expect("a cgroup");
    let read_back = cgroup.apply(limits).expect("limits").clone();
    assert!(cgroup.remove().expect("removed"), "it is empty");
    read_back
}
