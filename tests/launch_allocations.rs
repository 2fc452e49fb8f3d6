//! What one launch costs in allocations where it is on the way of every job: the decision, and the messages between
//! server and launcher. And that the documents show the recorded bounds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use serde::Serialize;
use serde::de::DeserializeOwned;
use stockade::isolation::ipc::{Event, Launch, Order};
use stockade::job::{Cause, ExitRecord, JobId, JobRequest, Timestamp};
use stockade::policy::{PolicySet, Site, Tenant};

#[path = "launch_counts/bounds.rs"]
mod bounds;

/// The system's allocator, and how often this thread asked it.
struct Counting;

thread_local! {
    static ASKED: Cell<u32> = const { Cell::new(0) };
}

fn count() {
    ASKED.with(|asked| asked.set(asked.get() + 1));
}

// SAFETY: every call is the system allocator's own; the counter needs no allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_of<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let before = ASKED.get();
    let result = work();
    (f64::from(ASKED.get() - before), result)
}

fn sent<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(message: &T) -> (f64, f64) {
    let (encoding, bytes) = allocations_of(|| postcard::to_stdvec(message).expect("encodes"));
    let (decoding, received) = allocations_of(|| postcard::from_bytes::<T>(&bytes).expect("decodes"));
    assert_eq!(&received, message);
    (encoding, decoding)
}

#[test]
fn a_launch_costs_no_more_allocations_than_recorded() {
    let policies = PolicySet::built_in();
    let site = Site {
        default_policy: "default".to_owned(),
        scripts_dir: None,
    };
    let tenant = Tenant {
        name: "default".to_owned(),
    };
    let mut request = JobRequest {
        argv: ["bash", "-c", "make test"].map(str::to_owned).to_vec(),
        ..JobRequest::default()
    };
    request.env.insert("LANG".to_owned(), "C.UTF-8".to_owned());
    let (resolve, resolved) = allocations_of(|| policies.resolve(&request, &site, &tenant));
    assert!(resolved.is_ok());
    let launch = Order::Launch(Box::new(Launch {
        id: JobId::random(),
        tenant: tenant.name,
        created_at: Timestamp::now(),
        request,
        idempotency_key: None,
    }));
    let (encode_launch, decode_launch) = sent(&launch);
    let record = ExitRecord::without_run(Cause::Exited { code: 0 });
    let finished = Event::Finished {
        id: JobId::random(),
        record: Box::new(record),
    };
    let (encode_finished, decode_finished) = sent(&finished);
    assert!(resolve > 0.0 && decode_launch > 0.0, "the counter does not count");
    bounds::assert_within(&[
        ("allocations", "resolve", resolve),
        ("allocations", "encode_launch", encode_launch),
        ("allocations", "decode_launch", decode_launch),
        ("allocations", "encode_finished", encode_finished),
        ("allocations", "decode_finished", decode_finished),
    ]);
}

#[test]
fn the_documents_show_the_bounds() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md");
    let document = std::fs::read_to_string(path).expect("docs/performance.md");
    for (part, of) in bounds::read() {
        for (what, most) in of {
            let row = format!("| {part} | {what} | {most} |");
            assert!(document.contains(&row), "docs/performance.md lacks: {row}");
        }
    }
}
