use std::collections::HashMap;

use prost_types::Timestamp;

use super::job_json::{cause_name, state_name};
use super::table::Cell;
use super::{Colour, Style, Table, printable, time};
use crate::proto::v1;

/// One line a job.
pub(in crate::cli) fn job_list(jobs: &[v1::Job], now: &Timestamp, style: Style) -> String {
    let mut table = Table::new(["ID", "STATE", "RESULT", "POLICY", "CREATED", "TIME", "LABELS"]);
    for job in jobs {
        table.row([
            printable(&job.id).into(),
            state(job),
            result(job).into(),
            printable(&job.policy).into(),
            time::shown(job.created_at.as_ref(), now, style).into(),
            run_time(job, now).into(),
            labels(&job.labels).into(),
        ]);
    }
    table.render(style)
}

/// One event: its position and the job, in columns of fixed width, as no later line is known.
pub(in crate::cli) fn event_line(position: u64, job: &v1::Job, style: Style) -> String {
    let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let state = format!("{:<8}", state_name(job.state));
    format!(
        "{position:>8}  {}  {}  {:<16}  {}\n",
        printable(&job.id),
        style.paint(state_colour(job), &state),
        dash(result(job)),
        dash(labels(&job.labels)),
    )
}

pub(super) fn state(job: &v1::Job) -> Cell {
    Cell::new(state_name(job.state), state_colour(job))
}

fn state_colour(job: &v1::Job) -> Option<Colour> {
    let success = job.cause == v1::Cause::Exited as i32 && job.exit_code == Some(0);
    match v1::State::try_from(job.state) {
        Ok(v1::State::Running) => Some(Colour::Cyan),
        Ok(v1::State::Stopping) => Some(Colour::Yellow),
        Ok(v1::State::Finished) if success => Some(Colour::Green),
        Ok(v1::State::Finished) => Some(Colour::Red),
        _ => None,
    }
}

/// The cause and its number in one word: `EXITED:3`, `SIGNALED:9`, `WALL_TIME`.
pub(super) fn result(job: &v1::Job) -> String {
    let Some(cause) = cause_name(job.cause) else {
        return String::new();
    };
    match (job.exit_code, job.signal, &job.start_failure) {
        (Some(code), ..) => format!("{cause}:{code}"),
        (None, Some(signal), _) => format!("{cause}:{signal}"),
        (None, None, Some(failure)) => format!("{cause}:{}", printable(&failure.step)),
        (None, None, None) => cause,
    }
}

/// From the start to the end, or to now.
pub(super) fn run_time(job: &v1::Job, now: &Timestamp) -> String {
    let Some(start) = &job.started_at else {
        return String::new();
    };
    let end = job.finished_at.as_ref().unwrap_or(now);
    time::span(start, end).map(time::short).unwrap_or_default()
}

pub(super) fn labels(labels: &HashMap<String, String>) -> String {
    let mut words: Vec<String> = labels
        .iter()
        .map(|(key, value)| printable(&format!("{key}={value}")))
        .collect();
    words.sort();
    words.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style {
        colours: false,
        relative_times: false,
    };

    const fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: 0 })
    }

    #[test]
    fn a_list_is_aligned() {
        let jobs = [
            v1::Job {
                id: "11111111-1111-4111-8111-111111111111".into(),
                policy: "default".into(),
                state: v1::State::Running as i32,
                created_at: at(1_700_000_000),
                started_at: at(1_700_000_001),
                ..v1::Job::default()
            },
            v1::Job {
                id: "22222222-2222-4222-8222-222222222222".into(),
                policy: "strict".into(),
                labels: HashMap::from([("b".into(), "2".into()), ("a".into(), "\u{1b}[1m".into())]),
                state: v1::State::Finished as i32,
                cause: v1::Cause::Exited as i32,
                exit_code: Some(3),
                created_at: at(1_699_999_000),
                started_at: at(1_699_999_001),
                finished_at: at(1_699_999_005),
                ..v1::Job::default()
            },
        ];
        let now = Timestamp {
            seconds: 1_700_000_100,
            nanos: 0,
        };
        let expected = "\
ID                                    STATE     RESULT    POLICY   CREATED               TIME   LABELS
11111111-1111-4111-8111-111111111111  RUNNING   -         default  2023-11-14T22:13:20Z  1m39s  -
22222222-2222-4222-8222-222222222222  FINISHED  EXITED:3  strict   2023-11-14T21:56:40Z  4.0s   a=?[1m,b=2
";
        assert_eq!(job_list(&jobs, &now, PLAIN), expected);
    }

    #[test]
    fn a_result_is_one_word() {
        let job = |cause: v1::Cause| v1::Job {
            cause: cause as i32,
            ..v1::Job::default()
        };
        assert_eq!(result(&v1::Job::default()), "");
        assert_eq!(result(&job(v1::Cause::WallTime)), "WALL_TIME");
        let signaled = v1::Job {
            signal: Some(9),
            ..job(v1::Cause::Signaled)
        };
        assert_eq!(result(&signaled), "SIGNALED:9");
        let failed = v1::Job {
            start_failure: Some(v1::StartFailure {
                step: "cgroup".into(),
                errno: "EBUSY".into(),
            }),
            ..job(v1::Cause::StartFailed)
        };
        assert_eq!(result(&failed), "START_FAILED:cgroup");
    }
}
