//! TEMP
use std::path::Path;
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint(String);
pub fn fingerprint(_: &Path) -> anyhow::Result<Fingerprint> {
    Ok(Fingerprint(String::new()))
}
