//! The compiled program does what the filter says, and the built-in profiles are short enough to be cheap.

use proptest::collection::vec;
use proptest::prelude::*;

use super::instruction::Instruction;
use super::interpret::{Outcome, check, run};
use super::names::NATIVE_ARCH;
use super::*;

fn compiled(filter: &Filter) -> Vec<Instruction> {
    let program = filter.compile().expect("short enough");
    check(&program).expect("a program that the kernel takes");
    program
}

fn call(number: u32, arguments: [u64; 6]) -> Call {
    Call {
        number,
        arch: NATIVE_ARCH,
        arguments,
    }
}

fn assert_agreement(filter: &Filter, program: &[Instruction], call: &Call) {
    assert_eq!(
        run(program, call).value,
        filter.decide(call).return_value(),
        "{call:x?}"
    );
}

fn actions() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Allow),
        Just(Action::Kill),
        Just(Action::Log),
        Just(Action::Trap),
        (0..5_u16).prop_map(Action::Errno),
    ]
}

/// Words that differ in one half, or at the edge of one.
fn words() -> impl Strategy<Value = u64> {
    let half = || {
        prop_oneof![
            Just(0_u64),
            Just(1),
            Just(2),
            Just(0x7fff_ffff),
            Just(0xffff_ffff),
            0..8_u64
        ]
    };
    (half(), half()).prop_map(|(high, low)| high << 32 | low)
}

fn masks() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(u64::MAX),
        Just(0xffff_ffff),
        Just(0xf),
        Just(0xffff_ffff_0000_0000),
        Just(0),
        words()
    ]
}

fn tests() -> impl Strategy<Value = Test> {
    prop_oneof![
        vec(words(), 0..5).prop_map(Test::In),
        words().prop_map(Test::Ne),
        words().prop_map(Test::Lt),
        words().prop_map(Test::Le),
        words().prop_map(Test::Gt),
        words().prop_map(Test::Ge),
    ]
}

fn conditions() -> impl Strategy<Value = Condition> {
    (0..6_u8, masks(), tests()).prop_map(|(argument, mask, test)| Condition { argument, mask, test })
}

/// Few numbers, so that rules meet, and the edges of the x32 range.
fn numbers() -> impl Strategy<Value = u32> {
    prop_oneof![
        6 => 0..12_u32,
        3 => 0..600_u32,
        1 => prop_oneof![Just(0x3fff_ffff), Just(0x4000_0000), Just(0x4000_0001), Just(u32::MAX - 1), Just(u32::MAX)],
    ]
}

fn filters() -> impl Strategy<Value = Filter> {
    let rule = (actions(), vec(numbers(), 0..8), vec(conditions(), 0..3))
        .prop_map(|(action, calls, when)| Rule { action, calls, when });
    (actions(), vec(rule, 0..12)).prop_map(|(default, rules)| Filter { default, rules })
}

fn calls() -> impl Strategy<Value = Call> {
    let arch = prop_oneof![9 => Just(NATIVE_ARCH), 1 => Just(0x4000_0003), 1 => any::<u32>()];
    (numbers(), arch, proptest::array::uniform6(words())).prop_map(|(number, arch, arguments)| Call {
        number,
        arch,
        arguments,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn programs_agree_with_their_filters(filter in filters(), calls in vec(calls(), 1..40)) {
        let program = compiled(&filter);
        for call in &calls {
            assert_agreement(&filter, &program, call);
        }
    }

    #[test]
    fn built_in_programs_agree_with_their_profiles(calls in vec(calls(), 1..40)) {
        for filter in built_in() {
            let program = compiled(&filter.1);
            for call in &calls {
                assert_agreement(&filter.1, &program, call);
            }
        }
    }
}

fn built_in() -> Vec<(&'static str, Filter)> {
    let profiles = Profiles::default();
    ["default", "strict", "ci"]
        .map(|name| (name, profiles.get(name).expect("a profile")))
        .to_vec()
}

#[test]
fn jumps_beyond_eight_bits_land_where_they_should() {
    // Each number a leaf of its own, each leaf long: the tree's upper branches span thousands of instructions.
    let rules = (0..180_u32)
        .map(|number| Rule {
            action: Action::Errno(u16::try_from(number % 97).expect("small")),
            calls: vec![number * 2],
            when: vec![Condition {
                argument: 0,
                mask: u64::MAX,
                test: Test::In((0..12).map(|value| value + u64::from(number)).collect()),
            }],
        })
        .collect();
    let filter = Filter {
        default: Action::Allow,
        rules,
    };
    let program = compiled(&filter);
    assert!(program.len() > 2500, "{}", program.len());
    for number in 0..400 {
        for argument in [0, 1, 11, 12, 170, 300, 1 << 32] {
            assert_agreement(&filter, &program, &call(number, [argument; 6]));
        }
    }
}

#[test]
fn one_long_list_of_values_is_jumped_over() {
    let filter = Filter {
        default: Action::Kill,
        rules: vec![Rule {
            action: Action::Allow,
            calls: vec![5],
            when: vec![
                Condition {
                    argument: 2,
                    mask: 0xffff_ffff,
                    test: Test::In((0..1500).collect()),
                },
                Condition {
                    argument: 3,
                    mask: u64::MAX,
                    test: Test::In((0..600).map(|value| value << 32).collect()),
                },
            ],
        }],
    };
    let program = compiled(&filter);
    for value in [0, 1, 299, 599, 600, 1499, 1500] {
        assert_agreement(&filter, &program, &call(5, [0, 0, value, value << 32, 0, 0]));
        assert_agreement(&filter, &program, &call(5, [0, 0, value, value, 0, 0]));
    }
}

#[test]
fn a_program_that_the_kernel_would_refuse_is_an_error() {
    let filter = Filter {
        default: Action::Kill,
        rules: vec![Rule {
            action: Action::Allow,
            calls: (0..400).collect(),
            when: vec![Condition {
                argument: 0,
                mask: u64::MAX,
                test: Test::In((0..5000).collect()),
            }],
        }],
    };
    assert_eq!(filter.compile(), Err(CompileError::TooLong));
}

#[test]
fn foreign_calls_die_under_every_profile() {
    for (name, filter) in built_in() {
        let program = compiled(&filter);
        let getpid = call_number("getpid").expect("everywhere");
        for arch in [0x4000_0003, 0xc000_00f3, 0, u32::MAX] {
            let foreign = Call {
                arch,
                ..call(getpid, [0; 6])
            };
            assert_eq!(
                run(&program, &foreign).value,
                Action::Kill.return_value(),
                "{name}"
            );
        }
        #[cfg(target_arch = "x86_64")]
        for number in [0x4000_0000, 0x4000_0000 | getpid, 0x4000_0208, u32::MAX - 1] {
            let x32 = call(number, [0; 6]);
            assert_eq!(run(&program, &x32).value, Action::Kill.return_value(), "{name}");
        }
        assert_eq!(
            run(&program, &call(getpid, [0; 6])).value,
            Action::Allow.return_value()
        );
    }
}

/// A filter's cost is paid on every call, by the kernel's cache where the answer depends on the number alone; and with each
/// job, for which the kernel compiles all of it.
#[test]
fn common_calls_take_few_instructions() {
    let common = [
        "read",
        "write",
        "openat",
        "futex",
        "execve",
        "mmap",
        "clone",
        "socket",
        "close",
        "epoll_wait",
    ];
    for (name, filter) in built_in() {
        let program = compiled(&filter);
        assert!(program.len() <= 245, "{name}: {} instructions", program.len());
        let steps = |call: &Call| run(&program, call).steps;
        let mut line = format!("{name}: {} instructions;", program.len());
        for call_name in common {
            let Some(number) = call_number(call_name) else {
                continue;
            };
            let taken = steps(&call(number, [0; 6]));
            line += &format!(" {call_name} {taken}");
            if ["read", "write", "openat", "futex", "execve"].contains(&call_name) {
                assert!(taken <= 12, "{name}: {call_name} takes {taken}");
            }
        }
        let all: usize = (0..512).map(|number| steps(&call(number, [0; 6]))).sum();
        println!("{line}; average of 512 numbers {:.1}", all as f64 / 512.0);
    }
}

#[test]
fn no_call_of_the_built_in_profiles_is_long() {
    for (_, filter) in built_in() {
        let program = compiled(&filter);
        for number in 0..512 {
            let Outcome { steps, .. } = run(&program, &call(number, [u64::MAX; 6]));
            assert!(steps < 64, "{number} takes {steps}");
        }
    }
}
