//! What users are told of packages is what is tested.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn options_in(text: &str) -> BTreeSet<&str> {
    let words = text.split_whitespace();
    words.filter(|word| word.starts_with("--")).collect()
}

#[test]
fn containers_are_tested_with_the_options_that_users_are_told() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| fs::read_to_string(root.join(file)).expect(file);
    let (docs, script) = (read("docs/docker.md"), read("tests/docker/run"));
    let command = docs.split_once("docker run -d").expect("a command").1;
    let command = command.split_once(" stockade\n").expect("its end").0;
    // What names this container and its place is each side's own.
    let own = ["--name", "--stop-timeout"];
    let mut told = options_in(command);
    told.retain(|option| !own.contains(option));
    let tested = script.split_once("RUN_OPTIONS=(").expect("options").1;
    let tested = options_in(tested.split_once(')').expect("their end").0);
    assert!(told.len() > 10, "{told:?}");
    assert_eq!(tested, told);
}
