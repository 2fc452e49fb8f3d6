//! What processes say to each other on the way of each job: encoded, sent, received and decoded.

use criterion::Criterion;
use serde::Serialize;
use serde::de::DeserializeOwned;
use stockade::isolation::ipc::{self, Event, Launch, Order};
use stockade::isolation::supervisor::{Go, ToSupervisor};
use stockade::job::{Cause, ExitRecord, IsolationFloor, JobId, Receipt, Timestamp};

use super::{Worker, request};

pub(super) fn measure(criterion: &mut Criterion) {
    let launch = Order::Launch(Box::new(Launch {
        id: JobId::random(),
        tenant: "default".to_owned(),
        created_at: Timestamp::now(),
        request: request(),
        idempotency_key: None,
    }));
    pass(criterion, "a launch to the launcher", &launch);
    let go = ToSupervisor::Go(Box::new(Go {
        spec: Worker::new().resolve(&request()).spec,
        receipt: Receipt::default(),
        require: IsolationFloor::default(),
        output_folder: Some(JobId::random().to_string()),
        ends_with_launcher: false,
    }));
    pass(criterion, "a job to its supervisor", &go);
    let finished = Event::Finished {
        id: JobId::random(),
        record: Box::new(ExitRecord::without_run(Cause::Exited { code: 0 })),
    };
    pass(criterion, "an outcome to the server", &finished);
}

/// One thread has both ends: no other is woken.
fn pass<T: Serialize + DeserializeOwned>(criterion: &mut Criterion, name: &str, message: &T) {
    let (near, far) = ipc::pair().expect("socketpair");
    criterion.bench_function(&format!("messages/{name}"), |bench| {
        bench.iter(|| {
            assert!(near.try_send(message).expect("sent"));
            let received = far.try_receive::<T>().expect("received");
            received.expect("a message")
        });
    });
}
