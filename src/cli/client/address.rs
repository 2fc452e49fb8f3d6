use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use tonic::codegen::http::Uri;

/// Where a worker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Address {
    Http(Uri),
    Https(Uri),
    Unix(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("neither http://HOST:PORT, https://HOST:PORT nor unix:/PATH")]
pub(in crate::cli) struct InvalidAddress;

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        if let Some(path) = text.strip_prefix("unix:") {
            // unix:///path and unix:/path are the same file.
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path.strip_prefix('/') {
                Some(rest) if !rest.is_empty() => Ok(Self::Unix(PathBuf::from(path))),
                _ => Err(InvalidAddress),
            };
        }
        let uri: Uri = text.parse().map_err(|_| InvalidAddress)?;
        if uri.port_u16().is_none() || uri.host().is_none_or(str::is_empty) || uri.path() != "/" {
            return Err(InvalidAddress);
        }
        match uri.scheme_str() {
            Some("http") => Ok(Self::Http(uri)),
            Some("https") => Ok(Self::Https(uri)),
            _ => Err(InvalidAddress),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(uri) | Self::Https(uri) => f.write_str(uri.to_string().trim_end_matches('/')),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_they_were_written() {
        for text in [
            "http://127.0.0.1:50000",
            "https://worker-3.internal:443",
            "http://[::1]:1",
            "unix:/run/stockade.sock",
        ] {
            let address: Address = text.parse().expect(text);
            assert_eq!(address.to_string(), text);
        }
        assert_eq!("unix:///run/s".parse(), "unix:/run/s".parse::<Address>());
    }

    #[test]
    fn what_names_no_worker_is_refused() {
        for text in [
            "",
            "127.0.0.1:50000",
            "http://host",
            "ftp://host:1",
            "http://host:1/path",
            "https://:443",
            "unix:relative",
            "unix:/",
            "unix:",
            "http://host:99999",
        ] {
            assert_eq!(text.parse::<Address>(), Err(InvalidAddress), "{text:?}");
        }
    }
}
