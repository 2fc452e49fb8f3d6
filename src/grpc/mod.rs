//! The tonic services: convert and delegate.

#![forbid(unsafe_code)]
