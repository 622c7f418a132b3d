//! A fact, and whether it could be read.

/// A fact and how we came by it.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen<T> {
    /// The object is not there, and that is certain.
    Absent,
    /// It was read.
    Known(T),
    /// It could not be read; the text says why. Never taken as fine.
    Unreadable(String),
}

impl<T> Seen<T> {
    /// The value, if it was read.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Absent | Self::Unreadable(_) => None,
        }
    }

    /// Why it could not be read.
    pub fn unreadable(&self) -> Option<&str> {
        match self {
            Self::Unreadable(why) => Some(why),
            Self::Absent | Self::Known(_) => None,
        }
    }

    /// The same fact, whose value is borrowed.
    pub fn as_ref(&self) -> Seen<&T> {
        match self {
            Self::Absent => Seen::Absent,
            Self::Known(value) => Seen::Known(value),
            Self::Unreadable(why) => Seen::Unreadable(why.clone()),
        }
    }

    /// The same fact, with what `change` makes of its value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Seen<U> {
        self.and_then(|value| Seen::Known(change(value)))
    }

    /// What `next` sees in the value; it sees no more than this where there is none.
    pub fn and_then<U>(self, next: impl FnOnce(T) -> Seen<U>) -> Seen<U> {
        match self {
            Self::Known(value) => next(value),
            Self::Absent => Seen::Absent,
            Self::Unreadable(why) => Seen::Unreadable(why),
        }
    }
}
