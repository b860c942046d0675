//! TEMP
use std::path::Path;
pub struct Watcher;
impl Watcher {
    pub fn start(_: &Path, _: impl Fn(&str) + Send + 'static) -> anyhow::Result<Self> {
        Ok(Self)
    }
    pub fn stop(self) {}
}
