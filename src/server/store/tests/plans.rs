//! What is read often, or of many jobs, is found in indices.

use super::super::keep::{
    COUNT, COUNT_OF_TENANTS, OLDEST, OLDEST_OF_TENANT, OUTPUT, OUTPUT_OF_TENANT, SUM, SUM_OF_TENANT,
    SUM_OF_TENANTS,
};
use super::super::read::PAGE;
use super::super::schema;
use super::*;

/// How SQLite goes about it; nothing may be sorted.
fn plan(statement: &str) -> String {
    let mut connection = Connection::open_in_memory().expect("open");
    schema::migrate(&mut connection).expect("migrate");
    let mut query = connection
        .prepare(&format!("EXPLAIN QUERY PLAN {statement}"))
        .expect("prepare");
    let parameters = vec!["1"; query.parameter_count()];
    let steps = query.query_map(rusqlite::params_from_iter(parameters), |row| {
        row.get::<_, String>(3)
    });
    let steps: rusqlite::Result<Vec<_>> = steps.expect("explain").collect();
    let plan = steps.expect("plan").join("; ");
    assert!(!plan.contains("TEMP"), "{statement}: {plan}");
    plan
}

/// Retention looks often, and beside all other lists: it must not read the rows of all jobs.
#[test]
fn what_is_kept_is_counted_and_the_oldest_found_in_indices() {
    for statement in [COUNT, COUNT_OF_TENANTS, SUM, SUM_OF_TENANT, SUM_OF_TENANTS] {
        let plan = plan(statement);
        assert!(plan.contains("COVERING INDEX"), "{statement}: {plan}");
    }
    for (statement, index) in [
        (OLDEST, "jobs_by_position"),
        (OLDEST_OF_TENANT, "jobs_kept (tenant=?)"),
        (OUTPUT, "jobs_with_output"),
        (OUTPUT_OF_TENANT, "jobs_kept (tenant=?)"),
    ] {
        let plan = plan(statement);
        assert!(plan.contains(index), "{statement}: {plan}");
    }
}

/// A tenant of few jobs does not wait for the rows of all others.
#[test]
fn a_list_looks_at_one_tenants_jobs_alone() {
    let plan = plan(PAGE);
    assert!(plan.contains("jobs_by_tenant (tenant=? AND rowid<?)"), "{plan}");
}
