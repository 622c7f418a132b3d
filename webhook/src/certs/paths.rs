//! The secret paths by which the webhook knows the API server: kept by all replicas, and published
//! in the registration beside the bundle.
//!
//! Only those who may read the registration or the Secret know the path. A new path is accepted by
//! every replica before it is published, and the old one for some time after.

use std::fmt::Write as _;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use rustls::crypto::ring;

/// The age at which a path is replaced.
const RENEWED: SignedDuration = SignedDuration::from_hours(90 * 24);
/// The time for which an old path is accepted after every entry of the registration has the new
/// one. Every API server sees a changed registration within seconds.
const LEFT: SignedDuration = SignedDuration::from_mins(10);
/// The most paths that are kept.
const MOST: usize = 4;
/// The bytes of chance in a path.
const BYTES: usize = 32;
/// The least length of a token. One that is shorter could be guessed.
const SHORTEST: usize = 32;
/// The greatest length of a token.
const LONGEST: usize = 128;

/// A path that is kept: its secret part, and when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    token: String,
    made: Timestamp,
}

/// Returns whether `token` may be the secret part of a path.
///
/// The API server takes a path of a service whose parts are DNS names
/// (pkg/util/webhook/validation.go), so a token has small letters, digits and hyphens.
pub(crate) fn is_token(token: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (SHORTEST..=LONGEST).contains(&token.len())
        && token.bytes().all(allowed)
        && !token.starts_with('-')
        && !token.ends_with('-')
}

/// Reads the paths that a Secret keeps, the newest first. A line that is none is left out.
pub(super) fn read(text: &str, now: Timestamp) -> Vec<Kept> {
    let line = |line: &str| {
        let (token, made) = line.trim().split_once(' ')?;
        let made = made.trim().parse::<Timestamp>().ok()?;
        // A path that a wrong clock dated ahead would never become old.
        is_token(token).then(|| Kept { token: token.to_owned(), made: made.min(now) })
    };
    text.lines().filter_map(line).take(MOST).collect()
}

/// Returns the text that a Secret keeps.
pub(super) fn text(kept: &[Kept]) -> String {
    let line = |kept: &Kept| [&kept.token, " ", &kept.made.to_string(), "\n"].concat();
    kept.iter().map(line).collect()
}

/// Returns the paths to keep from `now` on, the newest first.
///
/// `published` holds the tokens in the registration. `spread` is the time after which every replica
/// has seen a new path.
///
/// # Errors
/// Fails when the machine has no randomness.
pub(super) fn next(
    kept: &[Kept],
    published: &[Option<String>],
    spread: SignedDuration,
    now: Timestamp,
) -> anyhow::Result<Vec<Kept>> {
    let mut next = kept.to_vec();
    let fresh = next.first().is_some_and(|newest| now.duration_since(newest.made) < RENEWED);
    if !fresh {
        next.insert(0, Kept { token: token()?, made: now });
    }
    let newest = next.first().cloned();
    // What API servers use stays accepted, whatever became of the Secret. All replicas know it.
    for token in published.iter().flatten() {
        if next.iter().all(|kept| kept.token != *token) {
            next.push(Kept { token: token.clone(), made: now - spread });
        }
    }
    if let Some(newest) = newest
        && published.iter().all(|token| token.as_ref() == Some(&newest.token))
        && now.duration_since(newest.made) >= spread + LEFT
    {
        next.truncate(1);
    }
    next.truncate(MOST);
    Ok(next)
}

/// Returns the token to publish: the newest that every replica has seen. If there is none, no
/// replica serves under another, and the newest one can be published at once.
pub(super) fn to_publish(kept: &[Kept], spread: SignedDuration, now: Timestamp) -> Option<&str> {
    let seen = kept.iter().find(|kept| now.duration_since(kept.made) >= spread);
    seen.or(kept.first()).map(|kept| kept.token.as_str())
}

/// Returns the tokens to accept: those that are kept, and those in the registration.
pub(super) fn accepted(kept: &[Kept], published: &[Option<String>]) -> Vec<String> {
    let mut accepted: Vec<_> = kept.iter().map(|kept| kept.token.clone()).collect();
    for token in published.iter().flatten() {
        if !accepted.contains(token) {
            accepted.push(token.clone());
        }
    }
    accepted
}

/// Returns a new token.
fn token() -> anyhow::Result<String> {
    let mut bytes = [0; BYTES];
    let filled = ring::default_provider().secure_random.fill(&mut bytes);
    filled.map_err(|_| anyhow::anyhow!("the machine has no randomness for a secret path"))?;
    let mut token = String::with_capacity(2 * BYTES);
    for byte in bytes {
        write!(token, "{byte:02x}")?;
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPREAD: SignedDuration = SignedDuration::from_mins(1);

    fn start() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn published(token: &str) -> [Option<String>; 2] {
        [Some(token.to_owned()), Some(token.to_owned())]
    }

    #[test]
    fn first_path_is_published_at_once_and_kept() {
        let kept = next(&[], &[None, None], SPREAD, start()).unwrap();
        let token = to_publish(&kept, SPREAD, start()).unwrap();
        assert!(is_token(token), "{token}");
        let again = next(&kept, &published(token), SPREAD, start() + SPREAD * 30).unwrap();
        assert_eq!(again, kept);
        assert_eq!(read(&text(&kept), start()), kept);
        assert_ne!(next(&[], &[None], SPREAD, start()).unwrap(), kept, "by chance");
    }

    #[test]
    fn new_path_is_accepted_before_it_is_published_and_the_old_one_after() {
        let kept = next(&[], &[], SPREAD, start()).unwrap();
        let old = to_publish(&kept, SPREAD, start()).unwrap().to_owned();
        for lost in [false, true] {
            let mut now = start() + RENEWED;
            // The Secret loses its contents, or the path has its age.
            let before = if lost { vec![] } else { kept.clone() };
            let both = next(&before, &published(&old), SPREAD, now).unwrap();
            assert_eq!(both.len(), 2, "{lost}");
            let new = both[0].token.clone();
            assert_eq!(to_publish(&both, SPREAD, now), Some(old.as_str()), "others do not know");
            assert_eq!(accepted(&both, &published(&old)), [new.clone(), old.clone()]);

            now += SPREAD;
            assert_eq!(to_publish(&both, SPREAD, now), Some(new.as_str()));
            assert_eq!(next(&both, &published(&new), SPREAD, now).unwrap(), both, "in flight");
            now += LEFT;
            let one_entry = [Some(new.clone()), Some(old.clone())];
            assert_eq!(next(&both, &one_entry, SPREAD, now).unwrap(), both, "in one entry only");
            let left = next(&both, &published(&new), SPREAD, now).unwrap();
            assert_eq!(accepted(&left, &published(&new)), [new]);
        }
    }

    #[test]
    fn paths_never_become_many() {
        let mut kept = Vec::new();
        for day in 0..2000 {
            let stray = [Some(token().unwrap()), None];
            kept = next(&kept, &stray, SPREAD, start() + RENEWED * day).unwrap();
            assert!(kept.len() <= MOST);
        }
    }

    #[test]
    fn text_that_is_no_token_is_never_accepted() {
        for wrong in ["", "short", &"A".repeat(40), &"a/".repeat(20), &"-".repeat(40)] {
            assert!(!is_token(wrong), "{wrong}");
            let line = format!("{wrong} 2026-01-01T00:00:00Z\n");
            assert_eq!(read(&line, start()), [], "{wrong}");
        }
        assert!(is_token(&"a1".repeat(16)) && !is_token(&"a".repeat(129)));
        let ahead = format!("{} 2027-01-01T00:00:00Z", "a".repeat(40));
        assert_eq!(read(&ahead, start())[0].made, start(), "dated by a wrong clock");
    }
}
