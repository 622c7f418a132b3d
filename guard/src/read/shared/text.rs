//! An answer of the API server, and what was decoded from it.

use std::any::Any;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::OwnedSemaphorePermit;

use crate::read::bounded::Bounded;

/// The beginning of the objects in a list. Before it there is only the list's own metadata, in which the
/// API server writes a new resource version each time.
const ITEMS: &str = "\"items\":[";

/// What was decoded from an answer.
type Decoded = Arc<dyn Any + Send + Sync>;

/// The text of an answer. What one reader has decoded from it serves all others.
pub(in crate::read) struct Text {
    said: Box<str>,
    decoded: OnceLock<Decoded>,
    /// The place of a large answer, until it is decoded.
    place: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Text {
    /// Returns an answer of which nothing is decoded.
    pub(in crate::read) fn of((text, place): Bounded) -> Arc<Self> {
        Arc::new(Self::undecoded((text, place)))
    }

    fn undecoded((text, place): Bounded) -> Self {
        Self { said: text.into(), place: Mutex::new(place), decoded: OnceLock::new() }
    }

    /// Returns an answer to the same request as the one `before`. Where it lists the same objects, byte
    /// by byte, what was decoded from those holds for it as well.
    pub(super) fn after(text: Bounded, before: Option<&Self>) -> Arc<Self> {
        let text = Self::undecoded(text);
        if let Some(before) = before
            && let (Some(decoded), Some(items)) = (before.decoded.get(), text.items())
            && before.items() == Some(items)
        {
            // It is empty still.
            text.decoded.set(Arc::clone(decoded)).ok();
        }
        Arc::new(text)
    }

    /// Gives back the place of a large answer: it is decoded.
    pub(in crate::read) fn leave(&self) {
        drop(self.place.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Returns the text.
    pub(in crate::read) fn as_str(&self) -> &str {
        &self.said
    }

    /// Returns what `decode` makes of the objects in this list: it is called for the first reader only.
    /// Every reader of one request decodes it in the same way.
    pub(in crate::read) fn decoded<T: Any + Send + Sync>(
        &self,
        decode: impl Fn(&str) -> T,
    ) -> Arc<T> {
        let kept = self.decoded.get_or_init(|| Arc::new(decode(&self.said)));
        Arc::clone(kept).downcast().unwrap_or_else(|_| Arc::new(decode(&self.said)))
    }

    /// Returns the text from the objects on. `None` for an answer that is no list.
    fn items(&self) -> Option<&str> {
        self.said.find(ITEMS).and_then(|at| self.said.get(at..))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn same_objects_are_decoded_once_whatever_the_resource_version() {
        let calls = Cell::new(0);
        let decode = |text: &str| {
            calls.set(calls.get() + 1);
            text.len()
        };
        let list = |version: u32, items: &str| {
            let text =
                format!(r#"{{"metadata":{{"resourceVersion":"{version}"}},"items":[{items}]}}"#);
            (text, None)
        };
        let first = Text::of(list(7, "1"));
        let decoded = first.decoded(decode);
        assert!(Arc::ptr_eq(&decoded, &first.decoded(decode)));
        let second = Text::after(list(8, "1"), Some(&first));
        assert!(Arc::ptr_eq(&decoded, &second.decoded(decode)));
        assert_eq!((calls.get(), second.as_str()), (1, list(8, "1").0.as_str()));
        // Another object, an answer that is no list, and the first answer of all.
        for (text, before) in [
            (list(9, "2"), Some(&second)),
            (("{}".to_owned(), None), Some(&Text::of(("{}".to_owned(), None)))),
            (list(9, "1"), None),
        ] {
            calls.set(0);
            let before = before.map(|before| {
                before.decoded(decode);
                calls.set(0);
                &**before
            });
            Text::after(text, before).decoded(decode);
            assert_eq!(calls.get(), 1);
        }
    }
}
