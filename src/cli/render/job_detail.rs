use prost_types::Timestamp;

use super::job_list::{labels, result, run_time, state};
use super::table::Cell;
use super::{Style, Table, job_wire, printable, time};
use crate::proto::v1;
use crate::units::{format_bytes, format_cpus, format_duration_ms};

/// All that is known of one job, one line a field; fields without a value are left out.
pub(in crate::cli) fn job_detail(job: &v1::Job, now: &Timestamp, style: Style) -> String {
    let date = |at: Option<&Timestamp>| time::shown(at, now, style);
    let mut lines = Lines::default();
    lines.text("id", &job.id);
    lines.cell("state", state(job));
    lines.text("result", &result(job));
    lines.text("error", &job.error_text);
    lines.text("detail", &job.cause_detail);
    if let Some(failure) = &job.start_failure {
        lines.text("failed step", &format!("{} {}", failure.step, failure.errno));
    }
    lines.text("tenant", &job.tenant);
    lines.text("policy", &job.policy);
    lines.text("labels", &labels(&job.labels));
    lines.text("created", &date(job.created_at.as_ref()));
    lines.text("started", &date(job.started_at.as_ref()));
    lines.text("finished", &date(job.finished_at.as_ref()));
    lines.text("time", &run_time(job, now));
    job.stop
        .iter()
        .for_each(|stop| lines.text("stopped", &stopped(stop)));
    job.usage.iter().for_each(|usage| lines.usage(usage));
    job.output.iter().for_each(|output| lines.output(output));
    job.limits.iter().for_each(|limits| lines.limits(limits));
    job_wire::isolation(job)
        .iter()
        .for_each(|isolation| lines.isolation(isolation));
    lines.render(style)
}

/// Lines of a name and a value.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<[Cell; 2]>);

impl Lines {
    /// A line, unless there is nothing to say.
    pub(super) fn text(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            self.cell(name, printable(text).into());
        }
    }

    fn cell(&mut self, name: &str, cell: Cell) {
        self.0.push([name.into(), cell]);
    }

    pub(super) fn render(self, style: Style) -> String {
        let mut table = Table::bare();
        for line in self.0 {
            table.row(line);
        }
        table.render(style)
    }

    fn usage(&mut self, usage: &v1::Usage) {
        let text = format!(
            "CPU {} user + {} system, memory peak {}, processes peak {}",
            format_duration_ms(usage.cpu_user_us / 1000),
            format_duration_ms(usage.cpu_system_us / 1000),
            format_bytes(usage.memory_peak_bytes),
            usage.pids_peak
        );
        self.text("used", &text);
    }

    fn output(&mut self, output: &v1::Output) {
        for (name, totals) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            let Some(totals) = totals else { continue };
            let dropped = match totals.dropped_bytes {
                0 => String::new(),
                dropped => format!(", {dropped} of them not kept"),
            };
            self.text(name, &format!("{} bytes{dropped}", totals.total_bytes));
        }
    }

    fn limits(&mut self, limits: &v1::Limits) {
        let sizes = format!(
            "memory {}, pids {}, cpus {}, output {}, disk {}, inodes {}, open files {}",
            format_bytes(limits.memory_bytes),
            limits.pids,
            format_cpus(limits.cpu_millis),
            format_bytes(limits.output_bytes),
            format_bytes(limits.disk_bytes),
            limits.inodes,
            limits.open_files
        );
        self.text("limits", &sizes);
        let times = format!(
            "CPU time {}, wall time {}",
            format_duration_ms(limits.cpu_time_ms),
            format_duration_ms(limits.wall_time_ms)
        );
        self.text("deadlines", &times);
    }

    fn isolation(&mut self, isolation: &v1::Isolation) {
        self.text("namespaces", &isolation.namespaces.join(","));
        self.text("host uid", &isolation.host_uid.to_string());
        self.text("cgroup", &isolation.cgroup_version);
        self.text("seccomp", &isolation.seccomp_profile);
        self.text("landlock", &format!("ABI {}", isolation.landlock_abi));
        self.text("root", &isolation.rootfs);
        self.text("network", &isolation.network);
        self.text("weaker", &isolation.weaker.join("; "));
    }
}

fn stopped(stop: &v1::Stop) -> String {
    let mut text = format!("by {}", stop.by);
    if !stop.reason.is_empty() {
        text += &format!(" ({})", stop.reason);
    }
    if stop.escalated {
        text += &format!(", grace period over, {} processes killed", stop.killed);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_told_line_by_line() {
        let job = v1::Job {
            id: "11111111-1111-4111-8111-111111111111".into(),
            tenant: "ci".into(),
            policy: "default".into(),
            state: v1::State::Finished as i32,
            cause: v1::Cause::Stopped as i32,
            signal: Some(9),
            error_text: "signal: killed".into(),
            stop: Some(v1::Stop {
                by: "ci".into(),
                reason: "superseded\u{7}".into(),
                escalated: true,
                killed: 3,
            }),
            limits: Some(v1::Limits {
                memory_bytes: 256 << 20,
                pids: 64,
                cpu_millis: 500,
                cpu_time_ms: 10_000,
                wall_time_ms: 90_000,
                output_bytes: 16 << 20,
                disk_bytes: 64 << 20,
                inodes: 10_000,
                open_files: 256,
            }),
            output: Some(v1::Output {
                stdout: Some(v1::StreamTotals {
                    total_bytes: 20,
                    dropped_bytes: 4,
                    sha256: String::new(),
                }),
                stderr: None,
            }),
            // It never started: there is nothing to tell.
            isolation: Some(v1::Isolation::default()),
            ..v1::Job::default()
        };
        let style = Style {
            colours: false,
            relative_times: false,
        };
        let expected = "\
id         11111111-1111-4111-8111-111111111111
state      FINISHED
result     STOPPED:9
error      signal: killed
tenant     ci
policy     default
stopped    by ci (superseded?), grace period over, 3 processes killed
stdout     20 bytes, 4 of them not kept
limits     memory 256M, pids 64, cpus 0.5, output 16M, disk 64M, inodes 10000, open files 256
deadlines  CPU time 10s, wall time 1m30s
";
        assert_eq!(job_detail(&job, &Timestamp::default(), style), expected);
    }
}
