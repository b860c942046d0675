//! Reading payloads: only the members that are asked for, whatever the rest is. A member of the wrong type is as good as
//! missing, never an error; only what is no JSON at all is one.
//!
//! A payload is described by structures made with [`object!`], of [`Text`], integers, [`List`], [`First`], [`Either`] and
//! other such structures. Everything else is skipped without being stored. Of members of the same name the last counts.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::model::webhook_context::MOST_LABELS;

/// Something that can be read of any JSON value. By default it takes nothing from a value of any type.
pub(super) trait Lenient: Default {
    fn text(_text: &str) -> Self {
        Self::default()
    }

    fn integer(_number: i64) -> Self {
        Self::default()
    }

    fn list<'de, A: SeqAccess<'de>>(mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }

    fn object<'de, A: MapAccess<'de>>(mut members: A) -> Result<Self, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }
}

/// Reads a whole document.
///
/// # Errors
/// When it is not JSON.
pub(super) fn parse<T: Lenient>(json: &str) -> serde_json::Result<T> {
    let mut document = serde_json::Deserializer::from_str(json);
    let read = Reader::new().deserialize(&mut document)?;
    document.end()?;
    Ok(read)
}

/// Gives a value of any type to a [`Lenient`].
pub(super) struct Reader<T>(PhantomData<T>);

impl<T> Reader<T> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<'de, T: Lenient> DeserializeSeed<'de> for Reader<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Lenient> Visitor<'de> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        Ok(T::integer(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        Ok(i64::try_from(number).map_or_else(|_| T::default(), T::integer))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        Ok(T::text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<T, A::Error> {
        T::list(items)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
        T::object(members)
    }
}

/// A string that is not empty.
pub(super) type Text = Option<String>;

impl Lenient for Text {
    fn text(text: &str) -> Self {
        (!text.is_empty()).then(|| text.to_owned())
    }
}

impl Lenient for Option<i64> {
    fn integer(number: i64) -> Self {
        Some(number)
    }
}

/// A structure made with [`object!`].
pub(super) trait Object: Lenient {}

/// An object that matters also when it has none of the members.
impl<T: Object> Lenient for Option<T> {
    fn object<'de, A: MapAccess<'de>>(members: A) -> Result<Self, A::Error> {
        T::object(members).map(Some)
    }
}

/// The texts that the elements of a list have, at most [`MOST_LABELS`]; `None` when it is no list.
pub(super) struct List<T> {
    pub(super) texts: Option<Vec<String>>,
    elements: PhantomData<T>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { texts: None, elements: PhantomData }
    }
}

impl<T: Lenient + Into<Text>> Lenient for List<T> {
    fn list<'de, A: SeqAccess<'de>>(mut items: A) -> Result<Self, A::Error> {
        let mut texts = Vec::new();
        while texts.len() < MOST_LABELS {
            let Some(item) = items.next_element_seed(Reader::<T>::new())? else { break };
            texts.extend(item.into());
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self { texts: Some(texts), ..Self::default() })
    }
}

/// The first element of a list.
#[derive(Default)]
pub(super) struct First<T>(pub(super) T);

impl<T: Lenient> Lenient for First<T> {
    fn list<'de, A: SeqAccess<'de>>(mut items: A) -> Result<Self, A::Error> {
        let first = items.next_element_seed(Reader::<T>::new())?;
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self(first.unwrap_or_default()))
    }
}

/// A string, or an object.
#[derive(Default)]
pub(super) struct Either<T> {
    pub(super) text: Text,
    pub(super) object: T,
}

impl<T: Object> Lenient for Either<T> {
    fn text(text: &str) -> Self {
        Self { text: Text::text(text), object: T::default() }
    }

    fn object<'de, A: MapAccess<'de>>(members: A) -> Result<Self, A::Error> {
        Ok(Self { text: None, object: T::object(members)? })
    }
}

/// Name of a member, borrowed from the document where it has no escapes.
pub(super) struct Key<'de>(Cow<'de, str>);

impl Key<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a member")
            }

            fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(name)))
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_identifier(KeyVisitor)
    }
}

/// Defines a structure that is read from an object: `Name { field: Type, field as "member": Type }`.
macro_rules! object {
    ($(#[$attribute:meta])* $name:ident { $($field:ident $(as $member:literal)?: $type:ty),+ $(,)? }) => {
        $(#[$attribute])*
        #[derive(Default)]
        struct $name {
            $($field: $type),+
        }

        impl $crate::webhooks::lenient::Object for $name {}

        impl $crate::webhooks::lenient::Lenient for $name {
            fn object<'de, A: serde::de::MapAccess<'de>>(mut members: A) -> Result<Self, A::Error> {
                use $crate::webhooks::lenient::{Key, Reader};

                let mut read = Self::default();
                while let Some(key) = members.next_key::<Key<'de>>()? {
                    match key.as_str() {
                        $($crate::webhooks::lenient::object!(@ $field $($member)?) => {
                            read.$field = members.next_value_seed(Reader::new())?;
                        })+
                        _ => drop(members.next_value::<serde::de::IgnoredAny>()?),
                    }
                }
                Ok(read)
            }
        }
    };
    (@ $field:ident) => { stringify!($field) };
    (@ $field:ident $member:literal) => { $member };
}
pub(super) use object;

#[cfg(test)]
mod tests {
    use super::*;

    object!(Outer {
        word: Text,
        number: Option<i64>,
        inner: Inner,
        maybe: Option<Inner>,
        either: Either<Inner>,
        names: List<Inner>,
        words: List<Text>,
        first: First<Inner>,
        kind as "type": Text,
    });
    object!(Inner { name: Text });

    impl From<Inner> for Text {
        fn from(inner: Inner) -> Self {
            inner.name
        }
    }

    /// What is read, as one line.
    fn read(json: &str) -> String {
        let Some(outer) = parse::<Option<Outer>>(json).unwrap() else { return "no object".to_owned() };
        let maybe = outer.maybe.map(|inner| inner.name);
        let either = (outer.either.text, outer.either.object.name);
        let (names, words) = (outer.names.texts, outer.words.texts);
        let mut line = Vec::new();
        outer.word.iter().for_each(|word| line.push(word.clone()));
        outer.number.iter().for_each(|number| line.push(number.to_string()));
        outer.inner.name.iter().for_each(|name| line.push(format!("inner {name}")));
        maybe.iter().for_each(|name| line.push(format!("maybe {name:?}")));
        either.0.iter().for_each(|text| line.push(format!("text {text}")));
        either.1.iter().for_each(|name| line.push(format!("object {name}")));
        names.iter().for_each(|names| line.push(format!("names {names:?}")));
        words.iter().for_each(|words| line.push(format!("words {words:?}")));
        outer.first.0.name.iter().for_each(|name| line.push(format!("first {name}")));
        outer.kind.iter().for_each(|kind| line.push(format!("kind {kind}")));
        line.join(", ")
    }

    #[test]
    fn members_are_read_where_they_have_the_right_type() {
        for (json, expected) in [
            (r#"{"word":"a","number":7,"skipped":{"word":"b"}}"#, "a, 7"),
            (r#"{"inner":{"name":"a"},"maybe":{},"type":"k"}"#, "inner a, maybe None, kind k"),
            (r#"{"either":"a"}"#, "text a"),
            (r#"{"either":{"name":"a"}}"#, "object a"),
            (
                r#"{"names":[{"name":"a"},"b",{"name":""},{},null,[1],{"name":"c"}],"words":[]}"#,
                r#"names ["a", "c"], words []"#,
            ),
            (r#"{"words":["a",{"name":"b"},"",3,"c"]}"#, r#"words ["a", "c"]"#),
            (r#"{"first":[{"name":"a"},{"name":"b"}]}"#, "first a"),
            (r#"{"first":[7,{"name":"b"}]}"#, ""),
            (r#"{"number":-9223372036854775808}"#, "-9223372036854775808"),
            (r#"{"w\u006frd":"\u00e9\ud83e\udd99"}"#, "é🦙"),
        ] {
            assert_eq!(read(json), expected, "{json}");
        }
    }

    #[test]
    fn wrong_types_are_as_good_as_missing() {
        let members = ["word", "number", "inner", "maybe", "either", "names", "words", "first", "type"];
        for member in members {
            for wrong in ["null", "true", "1.5", "-0.0", "18446744073709551615", "\"\""] {
                assert_eq!(read(&format!("{{\"{member}\":{wrong}}}")), "", "{member} {wrong}");
            }
        }
        for wrong in [
            "{\"word\":5}",
            "{\"word\":[\"a\"]}",
            "{\"number\":\"5\"}",
            "{\"number\":[5]}",
            "{\"inner\":[{\"name\":\"a\"}]}",
        ] {
            assert_eq!(read(wrong), "", "{wrong}");
        }
        for no_object in ["null", "[]", "[{\"word\":\"a\"}]", "\"text\"", "5", "5.0", "false"] {
            assert_eq!(read(no_object), "no object");
        }
    }

    #[test]
    fn the_last_of_equal_members_counts() {
        assert_eq!(read(r#"{"word":"a","word":"b"}"#), "b");
        assert_eq!(read(r#"{"word":"a","word":null}"#), "");
        assert_eq!(read(r#"{"inner":{"name":"a"},"inner":{}}"#), "");
    }

    #[test]
    fn what_is_no_json_is_an_error_wherever_it_is() {
        for wrong in [
            "",
            "{",
            "{}x",
            "{} {}",
            r#"{"a":}"#,
            r#"{"skipped":{"a":[1,}}"#,
            r#"{"skipped":"a"#,
            r#"{"skipped":01}"#,
            "{\"skipped\":\"\u{1}\"}",
            r#"{"skipped":nul}"#,
            r#"{'word':1}"#,
            r#"{"word":"a",}"#,
            r#"{"skipped":"\x"}"#,
        ] {
            assert!(parse::<Option<Outer>>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_list_keeps_a_hundred_texts() {
        let many: Vec<String> = (0..300).map(|number| format!("\"{number}\"")).collect();
        let outer: Outer = parse(&format!("{{\"words\":[\"\",{}],\"word\":\"after\"}}", many.join(","))).unwrap();
        let texts = outer.words.texts.unwrap();
        assert_eq!((texts.len(), texts[99].as_str(), outer.word.as_deref()), (100, "99", Some("after")));
    }

    #[test]
    fn depth_needs_no_stack() {
        let depth = 2_000_000;
        for (open, close) in [("[", "]"), ("{\"word\":", "}"), ("{\"maybe\":{\"x\":", "}}")] {
            let nested = format!("{{\"inner\":{}5{},\"word\":\"a\"}}", open.repeat(depth), close.repeat(depth));
            let reader = std::thread::Builder::new().stack_size(256 * 1024);
            let read = reader.spawn(move || read(&nested)).unwrap().join().unwrap();
            assert_eq!(read, "a", "{open}");
        }
    }
}
