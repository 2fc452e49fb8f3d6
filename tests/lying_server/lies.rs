//! The lies, and what comes of each.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use stockade::isolation::ipc::{Event, Order};
use stockade::job::{Cause, JobId, JobRequest, Signal, StopOrder};

use crate::PATIENCE;
use crate::server::{LyingServer, launch, path_request, request};

impl LyingServer {
    pub(crate) fn lie(&self) {
        self.unknown_policies_and_tenants_are_refused();
        self.limits_are_the_launchers_own();
        self.records_of_other_jobs_stay();
        self.links_lead_nowhere();
        self.ids_of_no_job_do_nothing();
        self.a_running_job_keeps_its_folder();
        self.no_more_jobs_run_than_may();
        self.a_flood_of_orders_is_slowed_down();
        // And after all that it works.
        assert_eq!(
            self.run(JobId::random(), &request(&["true"])).cause,
            Cause::Exited { code: 0 }
        );
        for id in self.launched.take() {
            self.wait_until_forgotten(id);
            self.send(&Order::Delete { id });
        }
        self.settle();
    }

    fn unknown_policies_and_tenants_are_refused(&self) {
        for policy in [
            "nope",
            "../../etc/passwd",
            "/etc/passwd",
            "tight.toml",
            "default\0",
            "",
            "\u{202e}",
        ] {
            let asked = JobRequest {
                policy: Some(policy.to_owned()),
                ..request(&["true"])
            };
            self.assert_refused(launch(JobId::random(), &asked), policy);
        }
        for tenant in [
            String::new(),
            "x".repeat(256),
            "a\nstockade: forged".to_owned(),
            "x".repeat(8 << 20),
        ] {
            let mut lie = launch(JobId::random(), &request(&["true"]));
            lie.tenant = tenant;
            self.assert_refused(lie, "tenant");
        }
        let mut lie = launch(JobId::random(), &request(&["true"]));
        lie.idempotency_key = Some("k".repeat(1 << 20));
        self.assert_refused(lie, "key");
        for bad in [
            request(&[]),
            request(&["x"; 5000]),
            path_request("../../../etc/shadow"),
        ] {
            self.assert_refused(launch(JobId::random(), &bad), "request");
        }
    }

    fn limits_are_the_launchers_own(&self) {
        let tight = JobRequest {
            policy: Some("tight".to_owned()),
            ..request(&["true"])
        };
        let record = self.run(JobId::random(), &tight);
        assert_eq!(record.cause, Cause::Exited { code: 0 });
        let shown: Vec<&String> = record.receipt.limits.values().collect();
        assert!(
            shown.iter().any(|value| *value == "33554432"),
            "{:?}",
            record.receipt
        );
        let mut greedy = tight;
        greedy.limits.memory_bytes = Some(1 << 30);
        self.assert_refused(launch(JobId::random(), &greedy), "maximum.memory");
    }

    fn records_of_other_jobs_stay(&self) {
        let id = JobId::random();
        assert_eq!(
            self.run(id, &request(&["sh", "-c", "echo true; exit 7"])).cause,
            Cause::Exited { code: 7 }
        );
        let record = || fs::read(self.control(id).expect("a control folder").join("exit")).expect("record");
        let before = record();
        let denied = JobRequest {
            policy: Some("nope".to_owned()),
            ..request(&["true"])
        };
        self.wait_until_forgotten(id);
        for again in [denied, request(&["true"])] {
            let cause = self.run(id, &again).cause;
            assert!(matches!(cause, Cause::StartFailed { .. }), "{cause:?}");
            assert!(record() == before, "a record is written once");
        }
        // And once the record is the server's, the output stays.
        self.send(&Order::Recorded { id });
        let output = self.jobs.join(id.to_string()).join("stdout");
        eventually("the control folder is gone", || self.control(id).is_none());
        let cause = self.run(id, &request(&["echo", "forged"])).cause;
        assert!(matches!(cause, Cause::StartFailed { .. }), "{cause:?}");
        assert_eq!(fs::read_to_string(output).expect("output"), "true\n");
    }

    fn links_lead_nowhere(&self) {
        let id = JobId::random();
        let link = self.jobs.join(id.to_string());
        symlink(self.dir.join("canary"), &link).expect("symlink");
        self.send(&Order::Delete { id });
        let cause = self.run(id, &request(&["true"])).cause;
        assert!(matches!(cause, Cause::StartFailed { .. }), "{cause:?}");
        self.send(&Order::Delete { id });
        self.settle();
        fs::remove_file(link).expect("the link is still there");
    }

    fn ids_of_no_job_do_nothing(&self) {
        let id = JobId::random();
        let order = StopOrder::nameless();
        self.send(&Order::Stop { id, order });
        self.until("unknown", |event| {
            matches!(event, Event::Unknown { id: told } if told == id).then_some(())
        });
        let signal = Signal::KILL;
        self.send(&Order::Signal { id, signal });
        self.until("unknown", |event| {
            matches!(event, Event::Unknown { id: told } if told == id).then_some(())
        });
        self.send(&Order::Delete { id });
        self.until("deleted", |event| {
            matches!(event, Event::Deleted { id: told } if told == id).then_some(())
        });
    }

    fn a_running_job_keeps_its_folder(&self) {
        let id = self.start_sleeper();
        self.send(&Order::Delete { id });
        let lie = StopOrder {
            reason: "r".repeat(1 << 20),
            grace_ms: Some(u64::MAX),
            ..StopOrder::nameless()
        };
        self.send(&Order::Stop { id, order: lie });
        self.settle();
        assert!(self.control(id).expect("a control folder").join("job").exists());
        self.stop(id);
    }

    fn no_more_jobs_run_than_may(&self) {
        let sleepers = [self.start_sleeper(), self.start_sleeper()];
        let cause = self.run(JobId::random(), &request(&["true"])).cause;
        assert!(
            matches!(&cause, Cause::StartFailed { detail, .. } if detail.contains("max_running")),
            "{cause:?}"
        );
        for id in sleepers {
            self.stop(id);
        }
    }

    /// Asks and never listens.
    fn a_flood_of_orders_is_slowed_down(&self) {
        const MOST: usize = 400_000;
        let order = postcard::to_stdvec(&Order::List).expect("encodes");
        let mut sent = 0;
        let mut stuck = None;
        while sent < MOST {
            if self.channel.try_send_bytes(&order).expect("send") {
                sent += 1;
                stuck = None;
            } else if stuck.get_or_insert_with(Instant::now).elapsed() > Duration::from_secs(1) {
                break;
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let launcher = rustix::process::getppid().expect("a parent").as_raw_nonzero();
        let status = fs::read_to_string(format!("/proc/{launcher}/status")).expect("status");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident: usize = resident
            .and_then(|text| text.trim().trim_end_matches(" kB").parse().ok())
            .expect("VmRSS");
        assert!(sent < MOST, "all of {sent} orders were taken");
        assert!(resident < 128 << 10, "{resident} KiB after {sent} orders");
        self.settle();
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
