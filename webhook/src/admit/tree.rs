//! Decoders of JSON that count before they keep: whole trees, one level of fields, or nothing but
//! the count.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

use super::budget::{Budget, Part, Place, Refusal};

impl Budget {
    /// Decodes `json`, which is the part called `part`.
    pub(crate) fn decode(&self, part: &Part, json: &RawValue) -> Result<Value, Refusal> {
        let tree = Tree(Place::top(self, part));
        self.within(part, || tree.deserialize(&mut serde_json::Deserializer::from_str(json.get())))
    }

    /// Counts the values in `json`, in constant memory.
    pub(crate) fn count(&self, part: &Part, json: &RawValue) -> Result<(), Refusal> {
        let skipped = Skipped(Place::top(self, part));
        self.within(part, || {
            skipped.deserialize(&mut serde_json::Deserializer::from_str(json.get()))
        })
    }

    /// Splits an object into its fields, which count as one value each and stay encoded.
    pub(crate) fn fields<'a>(
        &self,
        part: &Part,
        json: &'a RawValue,
    ) -> Result<BTreeMap<Cow<'a, str>, &'a RawValue>, Refusal> {
        let fields = Fields(Place::top(self, part));
        self.within(part, || {
            fields.deserialize(&mut serde_json::Deserializer::from_str(json.get()))
        })
    }
}

/// Calls `each` for the fields of the object `json` in their order, and keeps none.
///
/// # Errors
/// Fails when `json` is no object.
pub(super) fn entries<'a>(
    json: &'a RawValue,
    each: impl FnMut(Cow<'a, str>, &'a RawValue),
) -> Result<(), serde_json::Error> {
    Entries(each).deserialize(&mut serde_json::Deserializer::from_str(json.get()))
}

/// Calls `each` for the items of the array `json` in their order, and keeps none.
///
/// # Errors
/// Fails when `json` is no array.
pub(super) fn items<'a>(
    json: &'a RawValue,
    each: impl FnMut(&'a RawValue),
) -> Result<(), serde_json::Error> {
    serde_json::Deserializer::from_str(json.get()).deserialize_seq(Items(each))
}

/// A visitor that calls a function for each item of one array.
struct Items<F>(F);

impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for Items<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element()? {
            (self.0)(item);
        }
        Ok(())
    }
}

/// A decoder of a key, which is borrowed unless it is written with escapes.
pub(super) struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

/// A decoder that calls a function for each field of one object.
struct Entries<F>(F);

impl<'de, F: FnMut(Cow<'de, str>, &'de RawValue)> DeserializeSeed<'de> for Entries<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de, F: FnMut(Cow<'de, str>, &'de RawValue)> Visitor<'de> for Entries<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<(), A::Error> {
        while let Some(key) = fields.next_key_seed(Key)? {
            let value = fields.next_value()?;
            (self.0)(key, value);
        }
        Ok(())
    }
}

/// A decoder of the fields of one object, by name, their values still encoded.
struct Fields<'b>(Place<'b>);

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = BTreeMap<Cow<'de, str>, &'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = BTreeMap<Cow<'de, str>, &'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut found = BTreeMap::new();
        while let Some(key) = fields.next_key_seed(Key)? {
            self.0.value()?;
            self.0.under(&key)?;
            if found.contains_key(&key) {
                return Err(self.0.twice(key));
            }
            found.insert(key, fields.next_value()?);
        }
        Ok(found)
    }
}

/// A decoder of a value and everything in it.
struct Tree<'b>(Place<'b>);

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        self.0.value()?;
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.0.text(value)?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inside = self.0.inside()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Tree(inside))? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let inside = self.0.inside()?;
        let mut map = Map::new();
        while let Some(key) = fields.next_key_seed(Key)? {
            let place = inside.under(&key)?;
            if map.contains_key(&*key) {
                return Err(place.twice(key));
            }
            let value = fields.next_value_seed(Tree(place))?;
            map.insert(key.into_owned(), value);
        }
        Ok(Value::Object(map))
    }
}

/// A decoder that counts a value and everything in it, and keeps nothing.
struct Skipped<'b>(Place<'b>);

impl<'de> DeserializeSeed<'de> for Skipped<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        self.0.value()?;
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Skipped<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inside = self.0.inside()?;
        while items.next_element_seed(Skipped(inside))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let inside = self.0.inside()?;
        while fields.next_key::<IgnoredAny>()?.is_some() {
            fields.next_value_seed(Skipped(inside))?;
        }
        Ok(())
    }
}
