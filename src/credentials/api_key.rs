//! The gateway's API key: a credential of its own (gateway.md §5.1).

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Store;
use super::store::Fields;
use crate::base::{Secret, ids};
use crate::model::names::CredentialRef;

/// Type of the credential; its default instance is used.
const KIND: &str = "gateway_api_key";
const FIELD: &str = "key";
/// Random bytes of a key.
const KEY_BYTES: usize = 32;

/// Whether a key was made just now, so that people have to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generated {
    Yes,
    No,
}

/// The stored key; a new one is stored when there is none.
///
/// # Errors
/// When the key cannot be read, or cannot be stored.
pub fn ensure_key(credentials: &Store) -> Result<(Secret, Generated)> {
    if let Some(key) = stored_key(credentials)? {
        return Ok((key, Generated::No));
    }
    credentials.write(&CredentialRef::default_of(KIND), &fresh())?;
    // Read again: whoever made one at the same moment has the same key then.
    let key = stored_key(credentials)?.context("the gateway's API key was stored but is not there")?;
    Ok((key, Generated::Yes))
}

/// The fields of a new key.
pub fn fresh() -> Fields {
    let key = Secret::new(URL_SAFE_NO_PAD.encode(ids::random::<KEY_BYTES>()));
    Fields::from([(FIELD.to_owned(), key)])
}

/// The stored key.
///
/// # Errors
/// When it cannot be read.
pub fn stored_key(credentials: &Store) -> Result<Option<Secret>> {
    credentials.read(&CredentialRef::default_of(KIND), FIELD)
}

/// File of the key.
pub fn key_file(credentials: &Store) -> std::path::PathBuf {
    credentials.root().join(KIND).join(CredentialRef::DEFAULT_INSTANCE).join(FIELD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_missing_or_empty_key_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path().join("home/credentials"));
        let (key, generated) = ensure_key(&store).unwrap();
        assert_eq!((key.expose().len(), generated), (43, Generated::Yes));
        let file = key_file(&store);
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{}\n", key.expose()));
        let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let parents: Vec<u32> = file.ancestors().skip(1).take(3).map(mode).collect();
        assert_eq!((mode(&file), parents), (0o600, vec![0o700; 3]));
        let (again, generated) = ensure_key(&store).unwrap();
        assert!(again == key && generated == Generated::No);
        fs::write(&file, " \n").unwrap();
        let (fresh, generated) = ensure_key(&store).unwrap();
        assert!(fresh != key && generated == Generated::Yes);
        fs::write(&file, " mine \n").unwrap();
        assert_eq!(ensure_key(&store).unwrap().0.expose(), "mine");
    }
}
