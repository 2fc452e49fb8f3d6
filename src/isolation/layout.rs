//! Where things are inside a sandbox.

/// The working directory of a job, and its HOME.
pub const WORKSPACE: &str = "/workspace";
/// A script that was sent with the request.
pub const SCRIPT: &str = "/run/script";
/// The worker's scripts folder, read-only.
pub const SCRIPTS: &str = "/scripts";
/// What the job reads on its standard input, where some was given.
pub const STDIN: &str = "/run/stdin";
/// PATH of a job that names none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Name of the user that a job is in `unprivileged` identity.
pub const USER: &str = "job";
/// uid and gid of that user, as seen inside.
pub const USER_ID: u32 = 1000;
