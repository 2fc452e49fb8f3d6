use std::path::PathBuf;

/// Why the job store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path}: {source}")]
    Open { path: PathBuf, source: rusqlite::Error },
    #[error("made by a newer version (schema {found}, this one knows {known})")]
    Newer { found: u32, known: u32 },
    #[error("migrating the schema to {version}: {source}")]
    Migrate { version: u32, source: rusqlite::Error },
    #[error("{operation}: {source}")]
    Query {
        operation: &'static str,
        source: rusqlite::Error,
    },
    #[error("a stored {what} is malformed: {reason}")]
    Malformed { what: &'static str, reason: String },
    #[error("starting the writer: {0}")]
    Thread(std::io::Error),
    #[error("reading was interrupted")]
    Interrupted,
}

impl StoreError {
    pub(super) fn query(operation: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Query { operation, source }
    }
}
