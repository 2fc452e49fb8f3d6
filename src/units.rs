//! Sizes, durations and CPU shares as people write them.

#![forbid(unsafe_code)]
