//! A fact, with the certainty of its reading: the type of everything that is read.

/// A fact, with the certainty of its reading.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Seen<T> {
    /// The object certainly does not exist.
    Absent,
    /// It was read.
    Known(T),
    /// It could not be read, for the reason in the text. Never taken as fine.
    Unreadable(String),
}

impl<T> Seen<T> {
    /// Returns the value, if it was read.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }

    /// Returns the reason for which the fact could not be read.
    pub fn unreadable(&self) -> Option<&str> {
        match self {
            Self::Unreadable(why) => Some(why),
            Self::Absent | Self::Known(_) => None,
        }
    }

    /// Returns the same fact with a borrowed value.
    pub fn as_ref(&self) -> Seen<&T> {
        match self {
            Self::Absent => Seen::Absent,
            Self::Known(value) => Seen::Known(value),
            Self::Unreadable(why) => Seen::Unreadable(why.clone()),
        }
    }

    /// Applies `change` to a known value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Seen<U> {
        self.and_then(|value| Seen::Known(change(value)))
    }

    /// Applies `next` to a known value, and passes on the reason otherwise.
    pub fn and_then<U>(self, next: impl FnOnce(T) -> Seen<U>) -> Seen<U> {
        match self {
            Self::Known(value) => next(value),
            Self::Absent => Seen::Absent,
            Self::Unreadable(why) => Seen::Unreadable(why),
        }
    }
}
