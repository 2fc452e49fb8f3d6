//! The binary that is built without the feature `fault-points` has no place to fail at a test's word.

#![cfg(not(feature = "fault-points"))]

use std::fs;
use std::path::Path;

#[test]
fn it_has_no_fault_points() {
    let places = places_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(places.len() > 40, "{places:?}");
    let binary = fs::read(env!("CARGO_BIN_EXE_stockade")).expect("the binary");
    let ascii = |byte: u8| if byte.is_ascii() { char::from(byte) } else { ' ' };
    let text: String = binary.into_iter().map(ascii).collect();
    let contains = |name: &str| text.contains(name);
    assert!(
        contains("STOCKADE_ENDPOINT"),
        "names of the environment can be found"
    );
    assert!(!contains("STOCKADE_FAULT"));
    for place in places {
        assert!(!contains(&place), "{place}");
    }
}

fn places_in(folder: &Path) -> Vec<String> {
    let mut places = Vec::new();
    for entry in fs::read_dir(folder).expect("sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            places.extend(places_in(&path));
        } else {
            let text = fs::read_to_string(&path).expect("a source");
            let named = text.split("fault_point!(\"").skip(1);
            let named = named.filter_map(|rest| rest.split_once('"'));
            places.extend(named.map(|(name, _)| name.to_owned()));
        }
    }
    places
}
