use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::policy::seccomp::LONGEST_PROGRAM;
use crate::policy::seccomp::instruction::{AND, ARCH, JUMP, JUMP_GE};

fn word(code: u16, if_true: u8, if_false: u8, k: u32) -> u64 {
    let instruction = Instruction {
        code,
        if_true,
        if_false,
        k,
    };
    instruction.to_word()
}

fn returns(value: u32) -> u64 {
    word(RETURN, 0, 0, value)
}

fn load(offset: u32) -> u64 {
    word(LOAD, 0, 0, offset)
}

/// Goes on where the word is this number, and skips so many instructions elsewhere.
fn is(number: libc::c_long, otherwise: u8) -> u64 {
    word(JUMP_EQ, 0, otherwise, u32::try_from(number).expect("small"))
}

#[test]
fn kills_alone_become_notifications() {
    let filter = Filter::reporting(&[load(0), returns(KILL_PROCESS), returns(ERRNO | 1)]);
    assert_eq!(
        filter.of_stub(),
        [load(0), returns(USER_NOTIF), returns(ERRNO | 1)]
    );
}

/// The programs of the built-in policies.
fn built_in() -> Vec<(String, Vec<u64>)> {
    use crate::job::JobRequest;
    use crate::policy::{PolicySet, Site, Tenant};
    let policies = PolicySet::built_in();
    let program = |name: &String| {
        let request = JobRequest {
            argv: vec!["true".to_owned()],
            ..JobRequest::default()
        };
        let site = Site {
            default_policy: name.clone(),
            scripts_dir: None,
        };
        let resolved = policies
            .resolve(&request, &site, &Tenant { name: String::new() })
            .expect("resolved");
        let program = resolved
            .sandbox
            .seccomp
            .as_ref()
            .expect("a filter")
            .program
            .clone();
        (name.clone(), program)
    };
    policies.names().iter().map(program).collect()
}

#[test]
fn built_in_filters_let_a_stub_go_on() {
    for (name, program) in built_in() {
        let filter = Filter::reporting(&program);
        assert!(filter.lets_stub_go_on(), "{name}");
        assert!(filter.in_halves().expect("told").lets_stub_go_on(), "{name}");
    }
}

fn lets_keep_keys(program: &[u64]) -> bool {
    Filter::reporting(program).lets_keep_keys()
}

#[test]
fn whether_keys_can_be_kept_is_told_for_all_arguments() {
    let (allow, errno) = (returns(ALLOW), returns(ERRNO | 1));
    assert!(lets_keep_keys(&[allow]) && !lets_keep_keys(&[errno]));
    assert!(!lets_keep_keys(&[returns(USER_NOTIF)]) && !lets_keep_keys(&[returns(KILL_PROCESS)]));
    assert!(lets_keep_keys(&[load(0), is(libc::SYS_keyctl, 1), allow, errno]));
    assert!(!lets_keep_keys(&[load(0), is(libc::SYS_read, 1), allow, errno]));
    // Only with 7 as its first argument.
    let with_argument = [load(0), is(libc::SYS_keyctl, 3), load(16), is(7, 1), allow, errno];
    assert!(lets_keep_keys(&with_argument));
    assert!(lets_keep_keys(&[0x61]), "an operation that is not known");
    assert!(lets_keep_keys(&[]));
}

#[test]
fn a_filter_that_refuses_one_of_the_calls_comes_last() {
    let lets_stub_go_on = |program: &[u64]| Filter::reporting(program).lets_stub_go_on();
    let allow = returns(ALLOW);
    assert!(lets_stub_go_on(&[allow]));
    let program = [load(0), is(libc::SYS_chdir, 1), returns(ERRNO | 1), allow];
    assert!(!lets_stub_go_on(&program));
    assert!(!lets_stub_go_on(&[0x61]), "an operation that is not known");
}

fn stopped(number: libc::c_long, arguments: [u64; 6]) -> StoppedCall {
    StoppedCall {
        id: 1,
        thread: 7,
        arch: NATIVE_ARCH,
        number: i32::try_from(number).expect("small"),
        arguments,
    }
}

/// What the kernel does with a call under all that a filter has installed: the severest, and of two alike the later.
fn decided(filter: &Filter, call: &Call) -> Option<u32> {
    let of_stub = verdict(filter.of_stub(), call)?;
    let Some(before) = filter.of_supervisor() else {
        return Some(of_stub);
    };
    let before = verdict(before, call)?;
    // As the kernel compares them: as signed numbers.
    let severity = |value: u32| (value & ACTION).cast_signed();
    Some(if severity(before) < severity(of_stub) {
        before
    } else {
        of_stub
    })
}

fn returned(filter: &Filter, number: libc::c_long) -> Option<u32> {
    decided(filter, &plain(u32::try_from(number).expect("small")))
}

/// A program as our compiler begins them, that kills calls of other architectures.
fn native(program: &[u64]) -> Vec<u64> {
    let beyond = u8::try_from(program.len()).expect("short");
    let head = [load(ARCH), word(JUMP_EQ, 0, beyond, NATIVE_ARCH)];
    [&head, program, &[returns(KILL_PROCESS)]].concat()
}

#[test]
fn netlink_sockets_are_asked_for_and_answered_as_the_profile_says() {
    // Of sockets, those of protocol 4 are refused.
    let profile = [
        load(0),
        is(libc::SYS_socket, 3),
        load(32),
        word(JUMP_EQ, 0, 1, 4),
        returns(ERRNO | 93),
        returns(ALLOW),
    ];
    let filter = Filter::reporting(&profile);
    let socket = |family: u64, protocol| StoppedCall {
        id: 1,
        thread: 2,
        arch: NATIVE_ARCH,
        number: libc::SYS_socket.try_into().expect("small"),
        arguments: [family, 3, protocol, 0, 0, 0],
    };
    let (netlink, unix) = (16, 1);
    let high = 1 << 32;
    for (family, counted) in [(netlink, true), (high | netlink, true), (unix, false)] {
        let call = socket(family, 0);
        let asked = Call {
            arguments: call.arguments,
            ..plain(SOCKET)
        };
        let told = decided(&filter, &asked) == Some(USER_NOTIF);
        assert_eq!((told, makes_netlink(&call)), (counted, counted), "{family}");
    }
    assert_eq!(filter.answer(&socket(netlink, 0)), Answer::Proceed);
    assert_eq!(filter.answer(&socket(netlink, 4)), Answer::Refuse(93));
    assert_eq!(returned(&filter, libc::SYS_getpid), Some(ALLOW));
    let without = Filter::reporting(&[
        load(0),
        is(libc::SYS_socket, 1),
        returns(ERRNO | 1),
        returns(ALLOW),
    ]);
    assert_eq!(returned(&without, libc::SYS_socket), Some(ERRNO | 1));
}

#[test]
fn what_stays_in_an_ipc_namespace_is_asked_for_and_answered_as_the_profile_says() {
    // shmget with 7 as its third argument is refused, semget always, mount kills.
    let profile = Filter::reporting(&native(&[
        load(0),
        is(libc::SYS_mount, 1),
        returns(KILL_PROCESS),
        is(libc::SYS_semget, 1),
        returns(ERRNO | 38),
        is(libc::SYS_shmget, 3),
        load(32),
        is(7, 1),
        returns(ERRNO | 1),
        returns(ALLOW),
    ]));
    let telling = profile.in_halves().expect("it can be answered");
    for number in [libc::SYS_shmget, libc::SYS_msgget, libc::SYS_mq_open] {
        assert_eq!(returned(&telling, number), Some(USER_NOTIF), "{number}");
    }
    for number in [libc::SYS_semget, libc::SYS_read, libc::SYS_mount] {
        assert_eq!(returned(&telling, number), returned(&profile, number), "{number}");
    }
    let answer = |number, third| telling.answer(&stopped(number, [0, 0, third, 0, 0, 0]));
    assert_eq!(answer(libc::SYS_shmget, 0), Answer::Proceed);
    assert_eq!(answer(libc::SYS_shmget, 7), Answer::Refuse(1));
    assert_eq!(answer(libc::SYS_msgget, 7), Answer::Proceed);
    assert_eq!(answer(libc::SYS_mount, 0), Answer::Kill);
}

#[test]
fn a_profile_that_the_supervisor_cannot_answer_for_is_not_told() {
    const TRACE: u32 = 0x7ff0_0000;
    let traced = native(&[load(0), is(libc::SYS_msgget, 1), returns(TRACE), returns(ALLOW)]);
    assert_eq!(Filter::reporting(&traced).in_halves(), None);
    let unlike_ours = [load(0), is(libc::SYS_mount, 1), returns(ERRNO), returns(ALLOW)];
    assert_eq!(Filter::reporting(&unlike_ours).in_halves(), None);
    let masks_numbers = native(&[
        load(0),
        word(AND, 0, 0, 0xff),
        is(libc::SYS_mount, 1),
        returns(ERRNO),
        returns(ALLOW),
    ]);
    assert_eq!(Filter::reporting(&masks_numbers).in_halves(), None);
    let long = vec![load(0); LONGEST_PROGRAM - 1];
    let long = [long, vec![returns(ALLOW)]].concat();
    assert_eq!(
        Filter::reporting(&long).in_halves(),
        None,
        "longer than the kernel takes"
    );
}

#[test]
fn calls_have_names() {
    let call = |arch, number| {
        describe(&StoppedCall {
            arch,
            number,
            ..stopped(0, [0; 6])
        })
    };
    assert_eq!(
        call(NATIVE_ARCH, i32::try_from(libc::SYS_mount).expect("small")),
        "mount"
    );
    assert_eq!(call(0x4000_0003, 21), "call 21 of a foreign ABI");
    assert_eq!(call(NATIVE_ARCH, 9999), "call 9999");
}

/// Whether two halves do what the profile does, but for what they ask.
fn assert_halves_agree(name: &str, filter: &Filter, halves: &Filter, call: &Call) {
    let expected = verdict(&filter.profile, call);
    let asked = call.arch == NATIVE_ARCH
        && (MAKE_IPC.iter().any(|number| *number == i64::from(call.number))
            || makes_netlink(&StoppedCall {
                id: 0,
                thread: 0,
                arch: call.arch,
                number: call.number.cast_signed(),
                arguments: call.arguments,
            }));
    let is_told = asked && may_succeed(&filter.profile, call.number);
    let expected = if is_told { Some(USER_NOTIF) } else { expected };
    assert_eq!(decided(halves, call), expected, "{name}: {call:x?}");
}

#[test]
fn halves_of_built_in_filters_agree_with_the_whole_for_each_number() {
    for (name, program) in built_in() {
        let filter = Filter::reporting(&program);
        let halves = filter.in_halves().expect("told");
        let edges = [0x3fff_ffff, 0x4000_0000, 0x4000_0001, u32::MAX - 1, u32::MAX];
        for number in (0..600).chain(edges) {
            for arch in [NATIVE_ARCH, 0x4000_0003] {
                let call = Call {
                    arch,
                    ..plain(number)
                };
                assert_halves_agree(&name, &filter, &halves, &call);
            }
        }
        let lengths = [halves.of_supervisor().expect("one").len(), halves.of_stub().len()];
        let whole = filter.of_stub().len();
        println!("{name}: {lengths:?} of {whole}");
        assert!(lengths[1] * 5 < whole * 4, "{name}: {lengths:?} of {whole}");
    }
}

/// Of a number: it is refused, killed for, or so with one first argument alone.
fn rules() -> impl Strategy<Value = Vec<(u32, u32, Option<u32>)>> {
    let number = prop_oneof![0..512_u32, Just(600), Just(u32::MAX)];
    let value = prop_oneof![
        Just(ALLOW),
        Just(ERRNO | 1),
        Just(ERRNO | 38),
        Just(KILL_PROCESS),
        Just(TRAP)
    ];
    vec((number, value, proptest::option::of(0..3_u32)), 0..60)
}

/// Tries each rule after the other.
fn listed(rules: &[(u32, u32, Option<u32>)], default: u32) -> Vec<u64> {
    let mut program = vec![load(NUMBER)];
    for (number, value, argument) in rules {
        match argument {
            None => program.extend([word(JUMP_EQ, 0, 1, *number), returns(*value)]),
            Some(argument) => program.extend([
                word(JUMP_EQ, 0, 4, *number),
                load(FIRST_ARGUMENT),
                word(JUMP_EQ, 0, 1, *argument),
                returns(*value),
                returns(default),
            ]),
        }
    }
    program.push(word(JUMP_GE, 0, 1, 0x4000_0000));
    program.push(returns(KILL_PROCESS));
    program.push(returns(default));
    // The other architectures are further off than a comparison reaches.
    let beyond = u32::try_from(program.len()).expect("short");
    let head = [
        load(ARCH),
        word(JUMP_EQ, 1, 0, NATIVE_ARCH),
        word(JUMP, 0, 0, beyond),
    ];
    [&head, &program[..], &[returns(KILL_PROCESS)]].concat()
}

proptest! {
    #[test]
    fn halves_agree_with_the_whole(
        rules in rules(),
        default in prop_oneof![Just(ALLOW), Just(ERRNO | 1), Just(ERRNO | 38)],
        calls in vec((prop_oneof![0..520_u32, 599..602_u32, 0x3fff_ffff..0x4000_0002_u32, Just(u32::MAX)], 0..4_u64, any::<bool>()), 200),
    ) {
        let filter = Filter::reporting(&listed(&rules, default));
        // Not where the supervisor could not answer.
        let Some(halves) = filter.in_halves() else { return Ok(()) };
        let of_rules = rules.iter().map(|(number, _, argument)| (*number, argument.unwrap_or(0).into(), true));
        for (number, first, native) in calls.into_iter().chain(of_rules) {
            let call = Call {
                number,
                arch: if native { NATIVE_ARCH } else { 0x4000_0003 },
                arguments: [first, 0, 0, 0, 0, 0],
            };
            assert_halves_agree("listed", &filter, &halves, &call);
        }
    }
}
