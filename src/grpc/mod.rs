//! The tonic services: convert and delegate.

#![forbid(unsafe_code)]

mod convert;
mod go_text;
mod status;
mod streams;
mod worker_jobscheduler;
mod worker_v1;

pub(crate) use convert::job_to_wire;

use std::sync::Arc;

use tonic::Request;
use tonic::service::{Routes, RoutesBuilder};
use tonic_health::server::HealthReporter;

use crate::job::bounds;
use crate::policy::Tenant;
use crate::proto::jobscheduler::worker_server::WorkerServer as OldWorkerServer;
use crate::proto::v1::worker_server::WorkerServer;
use crate::server::{Caller, Peer, Server};

use worker_jobscheduler::OldWorker;
use worker_v1::Worker;

/// No request is longer. What a job may hold is bounded field by field beside.
const MAX_REQUEST_BYTES: usize = bounds::REQUEST_BYTES;
/// A service's or a symbol's name.
const MAX_QUESTION_BYTES: usize = 16 << 10;

/// All services of one port. Must be called within the runtime.
#[must_use]
pub fn routes(server: &Arc<Server>) -> Routes {
    let mut routes = RoutesBuilder::default();
    routes
        .add_service(
            WorkerServer::new(Worker::new(Arc::clone(server))).max_decoding_message_size(MAX_REQUEST_BYTES),
        )
        .add_service(
            OldWorkerServer::new(OldWorker::new(Arc::clone(server)))
                .max_decoding_message_size(MAX_REQUEST_BYTES),
        );
    add_health(&mut routes, server);
    add_reflection(&mut routes);
    routes.routes()
}

/// The tenant behind a request's connection.
fn tenant<T>(request: &Request<T>) -> Tenant {
    match request.extensions().get::<Arc<Caller>>() {
        Some(caller) => caller.tenant().clone(),
        // Only in process, where nothing was proved.
        None => Peer::default().tenant().clone(),
    }
}

fn add_health(routes: &mut RoutesBuilder, server: &Arc<Server>) {
    let (reporter, service) = tonic_health::server::health_reporter();
    routes.add_service(service);
    tokio::spawn(report_health(reporter, Arc::clone(server)));
}

async fn report_health(reporter: HealthReporter, server: Arc<Server>) {
    reporter.set_serving::<WorkerServer<Worker>>().await;
    reporter.set_serving::<OldWorkerServer<OldWorker>>().await;
    server.closing().await;
    reporter.set_not_serving::<WorkerServer<Worker>>().await;
    reporter.set_not_serving::<OldWorkerServer<OldWorker>>().await;
}

/// Both versions of the reflection protocol: many clients know only the older one.
fn add_reflection(routes: &mut RoutesBuilder) {
    let configured = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(crate::proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let descriptors = "the build script wrote descriptors that it had compiled itself";
    routes
        .add_service(
            configured()
                .build_v1()
                .expect(descriptors)
                .max_decoding_message_size(MAX_QUESTION_BYTES),
        )
        .add_service(
            configured()
                .build_v1alpha()
                .expect(descriptors)
                .max_decoding_message_size(MAX_QUESTION_BYTES),
        );
}
