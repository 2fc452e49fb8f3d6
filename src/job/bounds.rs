//! What a request may at most hold. A request within these bounds costs bounded memory everywhere.

/// The kernel's MAX_ARG_STRLEN: the longest argument or environment word, its NUL included.
pub const ARGUMENT_BYTES: usize = 128 << 10;
pub const ARGUMENTS: usize = 4096;
/// Arguments and environment together; the kernel allows a quarter of the stack limit (8 MiB / 4).
pub const ARGUMENTS_TOTAL_BYTES: usize = 1 << 20;
pub const ENVIRONMENT_WORDS: usize = 1024;
/// PATH_MAX and NAME_MAX of Linux, without the NUL.
pub const PATH_BYTES: usize = 4095;
pub const NAME_BYTES: usize = 255;
pub const PATH_COMPONENTS: usize = 256;
pub const FILES: usize = 1024;
/// Script, input, files, arguments, environment and labels, all together. It is the longest gRPC message, too, so
/// there is no request that one of the two takes and the other does not; a message has a few bytes of its own.
pub const REQUEST_BYTES: usize = 4 << 20;
pub const LABELS: usize = 64;
pub const LABEL_KEY_BYTES: usize = 63;
pub const LABEL_VALUE_BYTES: usize = 255;
pub const POLICY_NAME_BYTES: usize = 63;
pub const IDEMPOTENCY_KEY_BYTES: usize = 255;
pub const REASON_BYTES: usize = 255;
/// A tenant's name, and the name of who stops a job.
pub const TENANT_BYTES: usize = 255;
pub const GRACE_MS: u64 = 24 * 3600 * 1000;
