use serde::Serialize;

use super::Style;
use super::job_detail::Lines;
use crate::proto::v1;
use crate::units::format_bytes;

/// A worker as JSON; the fields are those of GetWorkerResponse.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct WorkerView<'a> {
    version: &'a str,
    jobs_running: u32,
    jobs_pending: u32,
    jobs_max: u32,
    policies: &'a [String],
    draining: bool,
    host: Vec<HostView<'a>>,
    output_bytes_kept: u64,
    clean_up: &'a [String],
    tenant: &'a str,
    tenant_jobs_running: u32,
    tenant_jobs_pending: u32,
    tenant_output_bytes_kept: u64,
}

#[derive(Debug, Serialize)]
struct HostView<'a> {
    name: &'a str,
    status: &'a str,
    detail: &'a str,
}

impl<'a> From<&'a v1::GetWorkerResponse> for WorkerView<'a> {
    fn from(worker: &'a v1::GetWorkerResponse) -> Self {
        Self {
            version: &worker.version,
            jobs_running: worker.jobs_running,
            jobs_pending: worker.jobs_pending,
            jobs_max: worker.jobs_max,
            policies: &worker.policies,
            draining: worker.draining,
            host: worker
                .host
                .iter()
                .map(|ability| HostView {
                    name: &ability.name,
                    status: &ability.status,
                    detail: &ability.detail,
                })
                .collect(),
            output_bytes_kept: worker.output_bytes_kept,
            clean_up: &worker.clean_up,
            tenant: &worker.tenant,
            tenant_jobs_running: worker.tenant_jobs_running,
            tenant_jobs_pending: worker.tenant_jobs_pending,
            tenant_output_bytes_kept: worker.tenant_output_bytes_kept,
        }
    }
}

/// A worker for people, one line a field.
pub(in crate::cli) fn worker_detail(worker: &v1::GetWorkerResponse, style: Style) -> String {
    let mut lines = Lines::default();
    lines.text("version", &worker.version);
    lines.text(
        "jobs",
        &format!(
            "{} running of at most {}, {} pending",
            worker.jobs_running, worker.jobs_max, worker.jobs_pending
        ),
    );
    lines.text("admission", if worker.draining { "draining" } else { "open" });
    lines.text("policies", &worker.policies.join(", "));
    lines.text("output kept", &format_bytes(worker.output_bytes_kept));
    if !worker.tenant.is_empty() {
        lines.text(
            "of which",
            &format!(
                "{} running, {} pending, {} of output of tenant {}",
                worker.tenant_jobs_running,
                worker.tenant_jobs_pending,
                format_bytes(worker.tenant_output_bytes_kept),
                worker.tenant
            ),
        );
    }
    for ability in &worker.host {
        let text = format!("{} ({})", ability.status, ability.detail);
        lines.text(&ability.name, text.trim_end_matches(" ()"));
    }
    lines.text("to clean up", &worker.clean_up.join(", "));
    lines.render(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker() -> v1::GetWorkerResponse {
        v1::GetWorkerResponse {
            version: "0.1.0".into(),
            jobs_running: 2,
            jobs_pending: 1,
            jobs_max: 8,
            policies: vec!["ci".into(), "default".into()],
            draining: true,
            host: vec![v1::HostAbility {
                name: "landlock".into(),
                status: "ok".into(),
                detail: "ABI 7".into(),
            }],
            output_bytes_kept: 3 << 20,
            clean_up: vec!["folder of job 1: stdout: busy".into()],
            tenant: "a".into(),
            tenant_jobs_running: 1,
            tenant_jobs_pending: 0,
            tenant_output_bytes_kept: 1 << 20,
        }
    }

    #[test]
    fn a_worker_is_told_line_by_line() {
        let style = Style {
            colours: false,
            relative_times: false,
        };
        let expected = "\
version      0.1.0
jobs         2 running of at most 8, 1 pending
admission    draining
policies     ci, default
output kept  3M
of which     1 running, 0 pending, 1M of output of tenant a
landlock     ok (ABI 7)
to clean up  folder of job 1: stdout: busy
";
        assert_eq!(worker_detail(&worker(), style), expected);
    }

    #[test]
    fn json_has_the_fields_of_the_wire() {
        let worker = worker();
        let json = serde_json::to_value(WorkerView::from(&worker)).expect("json");
        assert_eq!(json["jobs_max"], 8);
        assert_eq!(json["host"][0]["status"], "ok");
        assert_eq!(json["clean_up"][0], "folder of job 1: stdout: busy");
        assert_eq!(json["tenant_output_bytes_kept"], 1 << 20);
    }
}
