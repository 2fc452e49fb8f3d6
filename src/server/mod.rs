//! The network-facing process: admission, store, output readers, and the connection to the launcher.

#![forbid(unsafe_code)]
