use crate::job::is_unprintable;

/// `text` without what could steer a terminal or forge a line: control characters and those that turn the
/// direction of the text around them. Names, labels and reasons come from other people.
pub(in crate::cli) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if is_unprintable(c) { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_cannot_be_steered() {
        assert_eq!(printable("a\u{1b}[31mb\r\n\u{202e}c\u{9b}d"), "a?[31mb???c?d");
        assert_eq!(printable("grün 日本 e\u{301}"), "grün 日本 e\u{301}");
    }
}
