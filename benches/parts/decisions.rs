//! What a job may have: of each job in server and launcher, and once at a start.

use std::hint::black_box;

use criterion::Criterion;
use stockade::isolation::sandbox::seccomp::Filter;
use stockade::policy::PolicySet;

use super::{Worker, request};

pub(super) fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decisions");
    let (worker, request) = (Worker::new(), request());
    group.bench_function("a job by its policy", |bench| {
        bench.iter(|| worker.resolve(black_box(&request)));
    });
    group.bench_function("the policy of stockade run", |bench| {
        bench.iter(|| PolicySet::built_in_alone(black_box("default")));
    });
    group.bench_function("all built-in policies", |bench| bench.iter(PolicySet::built_in));
    let profile = worker.resolve(&request).sandbox.seccomp.clone();
    let profile = profile.expect("the policy default has a filter");
    group.bench_function("a sandbox's filter", |bench| {
        bench.iter(|| Filter::reporting(black_box(&profile.program)).in_halves());
    });
    group.finish();
}
