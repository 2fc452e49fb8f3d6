//! Thin wrappers over system calls that nix and rustix lack.
