//! A token in a file that another program keeps fresh.
//!
//! client-go reads the file again each minute, keeps the last token where it cannot be read, and
//! takes no notice of white space around it (`NewCachedFileTokenSource`,
//! `transport/token_source.go`). A header with a line break is none for kube.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::AUTHORIZATION;
use http::{HeaderValue, Request};

use crate::error::Failure;

/// The time after which the file is read again.
const AGE: Duration = Duration::from_secs(60);

/// The token of a file.
#[derive(Clone)]
pub(super) struct TokenFile {
    path: PathBuf,
    last: Arc<Mutex<(HeaderValue, Instant)>>,
}

impl TokenFile {
    /// Reads the file for the first time.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let header = header(path).map_err(|why| {
            Failure::error(format!("the token file {} cannot be used: {why}", path.display()))
                .hint("check tokenFile of the user in the kubeconfig")
        })?;
        Ok(Self { path: path.to_owned(), last: Arc::new(Mutex::new((header, Instant::now()))) })
    }

    /// Adds the token to a request.
    pub(super) fn add<B>(&self, mut request: Request<B>) -> Request<B> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.1.elapsed() > AGE {
            let fresh = header(&self.path).unwrap_or_else(|_| last.0.clone());
            *last = (fresh, Instant::now());
        }
        request.headers_mut().insert(AUTHORIZATION, last.0.clone());
        request
    }
}

fn header(path: &Path) -> Result<HeaderValue, String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let mut value = HeaderValue::try_from(format!("Bearer {}", text.trim()))
        .map_err(|_| "it holds more than a token".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_break_behind_a_token_is_no_part_of_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\n").unwrap();
        let token = TokenFile::read(file.path()).unwrap();
        std::fs::remove_file(file.path()).unwrap();
        // The last token counts where the file is gone.
        token.last.lock().unwrap().1 = Instant::now().checked_sub(AGE * 2).unwrap();
        let request = token.add(Request::new(()));
        assert_eq!(request.headers()[AUTHORIZATION], "Bearer s3cret");
        let why = TokenFile::read(file.path()).err().unwrap().to_string();
        assert!(why.contains(&file.path().display().to_string()), "{why}");
    }
}
