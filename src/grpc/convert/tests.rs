//! What a client asked for is what is decided on: nothing is dropped, nothing is added, no demand gets weaker.

use std::collections::HashMap;

use proptest::collection::{hash_map, vec};
use proptest::prelude::*;

use super::request::job_request;
use crate::job::{JobRequest, Limit, Network};
use crate::proto::v1;

fn limits() -> impl Strategy<Value = v1::Limits> {
    let value = || prop_oneof![Just(0), Just(1), Just(u64::MAX), any::<u64>()];
    (proptest::array::uniform9(value())).prop_map(|values| v1::Limits {
        memory_bytes: values[0],
        pids: values[1],
        cpu_millis: values[2],
        cpu_time_ms: values[3],
        wall_time_ms: values[4],
        output_bytes: values[5],
        disk_bytes: values[6],
        inodes: values[7],
        open_files: values[8],
    })
}

fn floor() -> impl Strategy<Value = v1::IsolationFloor> {
    let name = prop_oneof![
        Just("net".to_owned()),
        Just("user".to_owned()),
        Just("time".to_owned()),
        "[a-z]{0,6}"
    ];
    let flags = proptest::array::uniform3(any::<bool>());
    (vec(name, 0..10), flags, any::<u32>()).prop_map(|(namespaces, flags, landlock_abi)| v1::IsolationFloor {
        namespaces,
        seccomp: flags[0],
        landlock_abi,
        no_capabilities: flags[1],
        cgroup_limits: flags[2],
    })
}

prop_compose! {
    fn requests()(
        argv in vec(any::<String>(), 0..4),
        script in vec(any::<u8>(), 0..20),
        texts in proptest::array::uniform5("[a-zA-Z0-9./-]{0,8}"),
        env in hash_map(any::<String>(), any::<String>(), 0..4),
        labels in hash_map(any::<String>(), any::<String>(), 0..4),
        files in vec((any::<String>(), vec(any::<u8>(), 0..8), any::<u32>()), 0..3),
        network in prop_oneof![Just(String::new()), Just("none".to_owned()), Just("host".to_owned()), any::<String>()],
        limits in proptest::option::of(limits()),
        require in proptest::option::of(floor()),
        grace_ms in any::<Option<u64>>(),
        on_output_limit in prop_oneof![0..3_i32, any::<i32>()],
    ) -> v1::StartJobRequest {
        let [path, working_dir, policy, stop_signal, idempotency_key] = texts;
        let files = files.into_iter().map(|(path, content, mode)| v1::File { path, content, mode }).collect();
        v1::StartJobRequest {
            argv, script, path, env, labels, files, network, limits, require, grace_ms, on_output_limit,
            working_dir, policy, stop_signal, idempotency_key,
            ..v1::StartJobRequest::default()
        }
    }
}

fn assert_kept(wire: &v1::StartJobRequest, request: &JobRequest) {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    assert_eq!(request.argv, wire.argv);
    assert_eq!(request.path, given(&wire.path));
    assert_eq!(request.policy, given(&wire.policy));
    assert_eq!(request.working_dir, given(&wire.working_dir));
    assert_eq!(request.grace_ms, wire.grace_ms);
    let same = |map: &std::collections::BTreeMap<String, String>, wire: &HashMap<String, String>| {
        map.len() == wire.len() && map.iter().all(|(key, value)| wire.get(key) == Some(value))
    };
    assert!(same(&request.env, &wire.env) && same(&request.labels, &wire.labels));
    assert_eq!(request.files.len(), wire.files.len());
    let network = match request.network {
        None => "",
        Some(Network::None) => "none",
        Some(Network::Host) => "host",
    };
    assert_eq!(network, wire.network);
    let limits = wire.limits.unwrap_or_default();
    let asked = [
        limits.memory_bytes,
        limits.pids,
        limits.cpu_millis,
        limits.cpu_time_ms,
        limits.wall_time_ms,
        limits.output_bytes,
        limits.disk_bytes,
        limits.inodes,
        limits.open_files,
    ];
    for (limit, asked) in Limit::ALL.into_iter().zip(asked) {
        assert_eq!(request.limits.get(limit).unwrap_or(0), asked, "{limit:?}");
    }
    let demanded = wire.require.clone().unwrap_or_default();
    assert_eq!(request.require.namespaces, demanded.namespaces);
    assert_eq!(request.require.landlock_abi, demanded.landlock_abi);
    assert_eq!(
        [
            request.require.seccomp,
            request.require.no_capabilities,
            request.require.cgroup_limits
        ],
        [demanded.seccomp, demanded.no_capabilities, demanded.cgroup_limits]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_request_is_refused_or_kept_as_it_is(wire in requests()) {
        match job_request(wire.clone()) {
            Ok((request, key)) => {
                assert_kept(&wire, &request);
                prop_assert_eq!(key.unwrap_or_default(), wire.idempotency_key);
                // And the check that follows never panics, whatever it says.
                let _ = request.check();
            }
            Err(invalid) => prop_assert!(!invalid.field.is_empty() && invalid.reason.len() < 1000),
        }
    }
}
