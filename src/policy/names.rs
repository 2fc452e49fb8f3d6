//! The words of a policy file that become file names, variables or host names: checked where they are read.

use serde::{Deserialize, Serialize};

use crate::job::bounds;

/// A word that was refused, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(String);

macro_rules! checked_word {
    ($(#[$doc:meta])* $type:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
        #[serde(try_from = "String", into = "String")]
        pub(super) struct $type(String);

        impl $type {
            pub(super) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = Refused;

            fn try_from(text: String) -> Result<Self, Refused> {
                match $check(&text) {
                    Ok(()) => Ok(Self(text)),
                    Err(reason) => Err(Refused(format!("{text:?} {reason}"))),
                }
            }
        }

        impl From<$type> for String {
            fn from(word: $type) -> Self {
                word.0
            }
        }
    };
}

checked_word!(
    /// Names a policy or a seccomp profile, and its file.
    Name,
    check_name
);
checked_word!(
    /// A path beneath /etc, or with a `*` at its end all paths that begin so.
    EtcEntry,
    check_etc
);
checked_word!(
    /// A text, or with a `*` at its end all texts that begin so.
    Pattern,
    check_pattern
);
checked_word!(Hostname, check_hostname);
checked_word!(
    /// The name of an environment variable.
    VariableName,
    check_variable
);

impl Pattern {
    pub(super) fn matches(&self, text: &str) -> bool {
        match self.as_str().strip_suffix('*') {
            Some(prefix) => text.starts_with(prefix),
            None => self.as_str() == text,
        }
    }
}

pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > bounds::POLICY_NAME_BYTES {
        Err("is not a name of 1 to 63 characters")
    } else if name.starts_with('.') || !name.bytes().all(fine) {
        Err("is not a name of a-z, 0-9, '-', '_' and '.' that begins without a '.'")
    } else {
        Ok(())
    }
}

/// What the sandbox writes itself, and what no job may have a copy of. A list of secrets cannot be complete:
/// the copying also leaves out what is not readable by everybody.
const NEVER_COPIED: [&str; 16] = [
    "passwd",
    "group",
    "hosts",
    "hostname",
    "resolv.conf",
    "passwd-",
    "group-",
    "shadow",
    "gshadow",
    "shadow-",
    "gshadow-",
    "sudoers",
    "sudoers.d",
    "ssh",
    "ssl/private",
    "machine-id",
];

fn check_etc(entry: &str) -> Result<(), &'static str> {
    let (path, is_prefix) = match entry.strip_suffix('*') {
        Some(prefix) => (prefix, true),
        None => (entry, false),
    };
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    let parts = || path.split('/');
    if path.is_empty() || path.len() > bounds::PATH_BYTES || path.contains(['*', '\0']) {
        return Err("is not a path below /etc, which may end in a '*'");
    }
    // "ssl/*" is the prefix "ssl/": its last part is empty.
    if parts().any(odd)
        && !(is_prefix && path.ends_with('/') && !path.trim_end_matches('/').split('/').any(odd))
    {
        return Err("is not a path relative to /etc without '.' and '..'");
    }
    let beneath = |path: &str, folder: &str| {
        path.strip_prefix(folder)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let covers = |secret: &str| {
        beneath(path, secret) || beneath(secret, path) || (is_prefix && secret.starts_with(path))
    };
    if NEVER_COPIED.iter().any(|secret| covers(secret)) {
        return Err("would copy a file that the sandbox writes itself, or a secret");
    }
    Ok(())
}

fn check_pattern(pattern: &str) -> Result<(), &'static str> {
    let text = pattern.strip_suffix('*').unwrap_or(pattern);
    if pattern.is_empty() || pattern.len() > bounds::PATH_BYTES || text.contains(['*', '\0']) {
        Err("is not a text that may end in one '*'")
    } else {
        Ok(())
    }
}

fn check_hostname(name: &str) -> Result<(), &'static str> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if (1..=63).contains(&name.len()) && name.bytes().all(fine) && !name.starts_with('-') {
        Ok(())
    } else {
        Err("is not a host name of 1 to 63 letters, digits and '-'")
    }
}

fn check_variable(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > bounds::NAME_BYTES || name.contains(['=', '\0']) {
        Err("is not a variable's name")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_file_names_and_nothing_else() {
        for name in ["default", "team-a_1.2", &"a".repeat(63)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            ".x",
            "a/b",
            "../x",
            "A",
            "ü",
            "a\0",
            "a\n",
            &"a".repeat(64),
        ] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn etc_entries_stay_below_etc_and_off_secrets() {
        for entry in ["ssl/certs", "python3*", "ld.so.conf.d", "ssl/certs/*"] {
            assert_eq!(check_etc(entry), Ok(()), "{entry}");
        }
        for entry in [
            "",
            "*",
            "/passwd",
            "../x",
            "a/../b",
            "./a",
            "a//b",
            "a/",
            "//*",
            "a*b",
            "passwd",
            "ssl",
            "ss*",
            "ssh/x",
            "s*",
            "ssl/*",
            "ssl/private/key",
            "sudoers.d/x*",
            "a\0",
        ] {
            assert!(check_etc(entry).is_err(), "{entry:?}");
        }
    }

    #[test]
    fn a_pattern_is_exact_or_a_prefix() {
        let pattern = |text: &str| Pattern::try_from(text.to_owned()).expect("a pattern");
        assert!(pattern("CI_*").matches("CI_X") && !pattern("CI_*").matches("CI"));
        assert!(pattern("PATH").matches("PATH") && !pattern("PATH").matches("PATHS"));
        assert!(pattern("*").matches(""));
        for text in ["", "**", "a*b", "*a"] {
            assert!(check_pattern(text).is_err(), "{text:?}");
        }
    }
}
