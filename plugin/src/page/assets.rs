//! The style and the script, and the headers of every answer.

use std::fmt::Write as _;
use std::sync::LazyLock;

use sha2::{Digest as _, Sha256};

/// Headers of every answer, pages and assets alike. Nothing inline runs, nothing of another origin
/// is loaded, and no other page may frame this one.
pub(crate) const HEADERS: &[(&str, &str)] = &[
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
];

/// `Cache-Control` of a page: it shows what is true now.
pub(crate) const PAGE_CACHE: &str = "no-store";

/// `Cache-Control` of an asset: its path changes with its content.
const ASSET_CACHE: &str = "public, max-age=31536000, immutable";

/// A file that pages load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asset {
    /// Its path, with a hash of its content.
    pub(crate) path: String,
    /// `Content-Type`.
    pub(crate) content_type: &'static str,
    /// `Cache-Control`.
    pub(crate) cache: &'static str,
    /// Its content.
    pub(crate) body: &'static str,
}

/// The style.
pub(super) static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::of("css", "text/css; charset=utf-8", include_str!("assets/app.css")));

/// The script.
pub(super) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::of("js", "text/javascript; charset=utf-8", include_str!("assets/app.js"))
});

impl Asset {
    fn of(extension: &str, content_type: &'static str, body: &'static str) -> Self {
        let mut hash = String::new();
        for byte in Sha256::digest(body.as_bytes()).iter().take(8) {
            // Writing to a string does not fail.
            write!(hash, "{byte:02x}").ok();
        }
        let path = format!("/assets/app-{hash}.{extension}");
        Self { path, content_type, cache: ASSET_CACHE, body }
    }
}

/// Returns the asset with this path.
pub(crate) fn asset(path: &str) -> Option<&'static Asset> {
    [&*STYLE, &*SCRIPT].into_iter().find(|asset| asset.path == path)
}
