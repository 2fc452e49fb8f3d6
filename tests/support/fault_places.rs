//! The places in which a binary for tests can be made to fail, by their names.

use std::fs;
use std::path::Path;

/// All of them, from the sources.
pub(crate) fn named_in_sources() -> Vec<String> {
    let places = named_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(places.len() > 40, "{places:?}");
    places
}

fn named_in(folder: &Path) -> Vec<String> {
    let mut places = Vec::new();
    for entry in fs::read_dir(folder).expect("sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            places.extend(named_in(&path));
        } else {
            let text = fs::read_to_string(&path).expect("a source");
            let named = text.split("fault_point!(\"").skip(1);
            let named = named.filter_map(|rest| rest.split_once('"'));
            places.extend(named.map(|(name, _)| name.to_owned()));
        }
    }
    places
}

/// What of the program is ASCII.
pub(crate) fn text_of_program() -> String {
    let binary = fs::read(env!("CARGO_BIN_EXE_stockade")).expect("the binary");
    let ascii = |byte: u8| if byte.is_ascii() { char::from(byte) } else { ' ' };
    binary.into_iter().map(ascii).collect()
}
