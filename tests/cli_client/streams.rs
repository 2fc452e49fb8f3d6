//! events.

use stockade::proto::v1::JobEvent;

use super::fake::{Act, FAILED, Fake, RUNNING, finished, running};
use super::harness::{Outcome, Served, command};
use std::io::{BufRead, BufReader};

fn event(position: u64, job: stockade::proto::v1::Job) -> Act<JobEvent> {
    Act::Send(JobEvent {
        position,
        job: Some(job),
    })
}

#[test]
fn events_are_lines() {
    let fake = Fake::with_jobs();
    fake.script()
        .events
        .push_back(vec![event(8, running()), event(9, finished(FAILED, 3))]);
    let served = Served::on_tcp(&fake);
    let outcome = served
        .stockade(&["events", "--since", "7", "--label", "a=b"])
        .succeeded();
    let expected = format!(
        "       8  {RUNNING}  RUNNING   -                 build=42\n       9  {FAILED}  FINISHED  EXITED:3          build=42\n"
    );
    assert_eq!(outcome.stdout, expected);
    let asked = fake.script().watched.pop().expect("one request");
    assert_eq!((asked.since, &*asked.labels["a"]), (7, "b"));
    let json = served.stockade(&["events", "-o", "json"]).succeeded().stdout;
    let lines: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines[1]["position"], 9);
    assert_eq!(lines[1]["job"]["cause"], "EXITED");
}

#[test]
fn events_go_on_behind_the_last_one_when_the_connection_breaks() {
    let fake = Fake::with_jobs();
    fake.script().events.extend([
        vec![event(8, running()), Act::Hang],
        vec![event(9, finished(RUNNING, 0))],
    ]);
    let served = Served::on_tcp(&fake);
    let proxy = served.proxy();
    let mut client = command(&proxy.endpoint, &["events"])
        .spawn()
        .expect("the binary runs");
    let mut lines = BufReader::new(client.stdout.take().expect("a pipe")).lines();
    let first = lines.next().expect("a line").expect("UTF-8");
    assert!(first.contains("RUNNING"), "{first}");
    proxy.cut();
    let second = lines.next().expect("a line").expect("UTF-8");
    assert!(second.contains("EXITED:0"), "{second}");
    Outcome::from(client.wait_with_output().expect("it ends")).succeeded();
    let asked: Vec<_> = fake.script().watched.iter().map(|asked| asked.since).collect();
    assert_eq!(asked, [0, 8]);
}
