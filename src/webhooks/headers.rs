//! The header of a delivery, apart from any HTTP library.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::providers;

/// Fields that are not kept, beside those with signatures. The last one is a signature that nobody checks any more.
const PRIVATE: [&str; 3] = ["authorization", "cookie", "x-hub-signature"];

/// Header fields by name in lower case; the values of a repeated one are joined with `, `.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(BTreeMap<String, String>);

impl Headers {
    /// The fields as they came.
    pub fn new<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut headers = BTreeMap::<String, String>::new();
        for (name, value) in fields {
            let joined = headers.entry(name.to_ascii_lowercase());
            joined.and_modify(|text| *text = format!("{text}, {value}")).or_insert_with(|| value.to_owned());
        }
        Self(headers)
    }

    /// Header fields as stored or written by hand.
    ///
    /// # Errors
    /// The name of a field whose value is not a string.
    pub fn from_json(fields: &Map<String, Value>) -> Result<Self, String> {
        let mut read = Vec::new();
        for (name, value) in fields {
            read.push((name.as_str(), value.as_str().ok_or_else(|| name.clone())?));
        }
        Ok(Self::new(read))
    }

    /// The value of a field, by its name in lower case; an empty one counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// What may be stored with a receipt: everything but signatures and logins.
    pub fn to_stored_json(&self) -> Map<String, Value> {
        let is_private = |name: &str| PRIVATE.contains(&name) || providers::is_signature(name);
        let kept = self.0.iter().filter(|(name, _)| !is_private(name));
        kept.map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_lower_case_and_repeated_fields_joined() {
        let headers = Headers::new([("X-A", "1"), ("x-b", ""), ("x-a", "2")]);
        assert_eq!((headers.get("x-a"), headers.get("x-b"), headers.get("x-c")), (Some("1, 2"), None, None));
    }

    #[test]
    fn neither_signatures_nor_logins_are_stored() {
        let headers = Headers::new([
            ("Authorization", "x"),
            ("Cookie", "x"),
            ("X-Hub-Signature", "x"),
            ("X-Hub-Signature-256", "x"),
            ("Sentry-Hook-Signature", "x"),
            ("Linear-Signature", "x"),
            ("X-Mintlify-Signature", "x"),
            ("Mintlify-Signature", "x"),
            ("X-GitHub-Event", "push"),
        ]);
        let stored = headers.to_stored_json();
        assert_eq!(Value::Object(stored.clone()), json!({"x-github-event": "push"}));
        assert_eq!(Headers::from_json(&stored).unwrap().get("x-github-event"), Some("push"));
    }
}
