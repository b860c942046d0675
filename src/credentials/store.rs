//! The credential store, `<root>/<type>/<instance>/<field>`: one private text file per field (cli-config.md §4.2).

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use shims::credential_types;

use crate::base::Secret;
use crate::base::error::CredentialError;
use crate::base::files::{create_new, ensure_private_dir, open_regular};
use crate::base::ids::hex8;
use crate::model::names::CredentialRef;

/// Most bytes of one field.
const LARGEST: u64 = 1 << 20;

/// Values of an instance by field name.
pub type Fields = BTreeMap<String, Secret>;

/// A directory of credentials.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// Whether an instance can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    Complete,
    /// It is there, but these mandatory fields are not, or are empty.
    Incomplete(Vec<&'static str>),
    Missing,
}

impl Store {
    /// The store in this directory, which need not exist.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether an instance is stored with everything that its type demands.
    ///
    /// # Errors
    /// As [`Store::read_all`].
    pub fn status(&self, reference: &CredentialRef) -> Result<Status> {
        let Some(fields) = self.read_all(reference)? else { return Ok(Status::Missing) };
        let is_set = |name: &str| fields.get(name).is_some_and(|value| !value.is_empty());
        let Some(known) = credential_types::find(reference.kind()) else {
            return Ok(if fields.keys().any(|name| is_set(name)) { Status::Complete } else { Status::Missing });
        };
        let mandatory = known.fields.iter().filter(|field| field.is_mandatory()).map(|field| field.name);
        let lacking: Vec<&str> = mandatory.filter(|name| !is_set(name)).collect();
        Ok(if lacking.is_empty() { Status::Complete } else { Status::Incomplete(lacking) })
    }

    /// The value of a field, without the white space around it; `None` when there is none or it is empty.
    ///
    /// # Errors
    /// A field that cannot be read, is too large or is not UTF-8.
    pub fn read(&self, reference: &CredentialRef, field: &str) -> Result<Option<Secret>> {
        let Some(path) = self.inside(&self.directory(reference).join(field))? else { return Ok(None) };
        let value = read_field(&path, &format!("{reference}: {field}"))?;
        Ok(value.filter(|value| !value.is_empty()))
    }

    /// All fields of an instance, whatever its type; `None` when it has no file at all.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn read_all(&self, reference: &CredentialRef) -> Result<Option<Fields>> {
        let Some(directory) = self.inside(&self.directory(reference))? else { return Ok(None) };
        let mut fields = Fields::new();
        for name in names(&directory)? {
            let Some(path) = self.inside(&directory.join(&name))?.filter(|path| path.is_file()) else { continue };
            if let Some(value) = read_field(&path, &format!("{reference}: {name}"))? {
                fields.insert(name, value);
            }
        }
        Ok((!fields.is_empty()).then_some(fields))
    }

    /// Everything stored as (type, instance, field), sorted.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn list(&self) -> Result<Vec<(String, String, String)>> {
        let mut found = Vec::new();
        for kind in names(&self.root)? {
            for instance in self.instances(&kind)? {
                let Some(directory) = self.inside(&self.root.join(&kind).join(&instance))? else { continue };
                let fields = names(&directory)?.into_iter().filter(|name| directory.join(name).is_file());
                found.extend(fields.map(|field| (kind.clone(), instance.clone(), field)));
            }
        }
        found.sort();
        Ok(found)
    }

    /// The stored instances of a type, sorted.
    ///
    /// # Errors
    /// A directory that cannot be read.
    pub fn instances(&self, kind: &str) -> Result<Vec<String>> {
        let Some(directory) = self.inside(&self.root.join(kind))? else { return Ok(Vec::new()) };
        let mut instances = Vec::new();
        for name in names(&directory)? {
            if self.inside(&directory.join(&name))?.is_some_and(|path| path.is_dir()) {
                instances.push(name);
            }
        }
        Ok(instances)
    }

    /// Files and directories that others than the owner may look into.
    pub fn loose(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect_loose(&self.root, 0, &mut found);
        found
    }

    /// Replaces the fields of an instance; empty ones are not stored. A reader sees the old or the new set, also after
    /// a crash. Files that do not belong to the type are kept.
    ///
    /// # Errors
    /// A field that is too large, or a system that refuses; the old set is then still there.
    pub fn write(&self, reference: &CredentialRef, fields: &Fields) -> Result<()> {
        if let Some((name, _)) = fields.iter().find(|(_, value)| value.expose().len() as u64 > LARGEST) {
            bail!(too_large(&format!("{reference}: {name}")));
        }
        let directory = self.directory(reference);
        let parent = self.root.join(reference.kind());
        if let Some(home) = self.root.parent().filter(|home| !home.exists()) {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(home);
            made.with_context(|| format!("create {}", home.display()))?;
        }
        // The root itself may be a link to a directory.
        if !fs::symlink_metadata(&self.root).is_ok_and(|found| found.is_symlink() && self.root.is_dir()) {
            ensure_private_dir(&self.root)?;
        }
        ensure_private_dir(&parent)?;
        let fresh = parent.join(format!(".{}.tmp-{}", reference.instance(), hex8()));
        let replaced = self.fill(&fresh, reference, fields).and_then(|()| exchange(&fresh, &directory));
        // Holds the old set after the exchange, the unfinished new one after a failure.
        let _ = fs::remove_dir_all(&fresh);
        replaced.with_context(|| format!("store credential \"{reference}\""))
    }

    /// Removes an instance, and the directory of its type when nothing else is in there. Whether it was there.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn remove(&self, reference: &CredentialRef) -> Result<bool> {
        let directory = self.directory(reference);
        if self.inside(&directory)?.is_none() {
            return Ok(false);
        }
        let is_link = fs::symlink_metadata(&directory)?.is_symlink();
        let removed = if is_link { fs::remove_file(&directory) } else { fs::remove_dir_all(&directory) };
        removed.with_context(|| format!("remove credential \"{reference}\""))?;
        let _ = fs::remove_dir(self.root.join(reference.kind()));
        Ok(true)
    }

    fn fill(&self, fresh: &Path, reference: &CredentialRef, fields: &Fields) -> Result<()> {
        DirBuilder::new().mode(0o700).create(fresh)?;
        let known = credential_types::find(reference.kind());
        let is_known = |name: &str| known.is_none_or(|known| known.fields.iter().any(|field| field.name == name));
        for (name, value) in self.read_all(reference)?.unwrap_or_default() {
            if !is_known(&name) && !fields.contains_key(&name) {
                create_new(&fresh.join(&name), format!("{}\n", value.expose()).as_bytes(), 0o600)?;
            }
        }
        for (name, value) in fields {
            let value = value.expose().trim();
            if !value.is_empty() {
                let path = fresh.join(name);
                create_new(&path, format!("{value}\n").as_bytes(), 0o600)?;
                File::open(&path)?.sync_all()?;
            }
        }
        File::open(fresh)?.sync_all()?;
        Ok(())
    }

    fn directory(&self, reference: &CredentialRef) -> PathBuf {
        self.root.join(reference.kind()).join(reference.instance())
    }

    /// The real path, when it exists and no link leads out of the store.
    ///
    /// # Errors
    /// When it is not known whether it exists: what may not be looked at must not count as absent.
    fn inside(&self, path: &Path) -> Result<Option<PathBuf>> {
        let (Some(root), Some(path)) = (real_path(&self.root)?, real_path(path)?) else { return Ok(None) };
        Ok(path.starts_with(root).then_some(path))
    }
}

fn real_path(path: &Path) -> Result<Option<PathBuf>> {
    match path.canonicalize() {
        Ok(path) => Ok(Some(path)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Puts a directory in the place of another, which is afterwards where the first was.
fn exchange(fresh: &Path, place: &Path) -> Result<()> {
    if !place.exists() {
        return Ok(fs::rename(fresh, place)?);
    }
    match renameat_with(CWD, fresh, CWD, place, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        // Some file systems cannot exchange; then there is a moment without either.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            let aside = fresh.with_extension(format!("tmp-{}", hex8()));
            fs::rename(place, &aside)?;
            fs::rename(fresh, place)?;
            Ok(fs::rename(&aside, fresh)?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Names in a directory that do not begin with a dot, sorted; none when there is no directory.
fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("read {}", directory.display())),
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    Ok(names)
}

fn read_field(path: &Path, what: &str) -> Result<Option<Secret>> {
    let mut bytes = Vec::new();
    match open_regular(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    }
    if bytes.len() as u64 > LARGEST {
        bail!(too_large(what));
    }
    let Ok(text) = std::str::from_utf8(&bytes) else {
        bail!(CredentialError(format!("{what} is not UTF-8 text; store it again with `al creds add`")));
    };
    Ok(Some(Secret::new(text.trim())))
}

fn too_large(what: &str) -> CredentialError {
    CredentialError(format!("{what} is larger than 1 MiB"))
}

fn collect_loose(path: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    // Below the fields there is nothing of ours.
    if depth > 3 {
        return;
    }
    let Ok(metadata) =
        fs::symlink_metadata(path).and_then(|plain| if depth == 0 { fs::metadata(path) } else { Ok(plain) })
    else {
        return;
    };
    if !metadata.is_symlink() && metadata.permissions().mode() & 0o077 != 0 {
        found.push(path.to_owned());
    }
    if metadata.is_dir() {
        for name in names(path).unwrap_or_default() {
            collect_loose(&path.join(name), depth + 1, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(text: &str) -> CredentialRef {
        CredentialRef::parse(text).unwrap()
    }

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect()
    }

    /// A store with files at `<type>/<instance>/<field>`.
    fn store(files: &[(&str, &str)]) -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("credentials");
        for (path, content) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        (dir, Store::at(root))
    }

    #[track_caller]
    fn status(files: &[(&str, &str)], text: &str, expected: Status) {
        assert_eq!(store(files).1.status(&reference(text)).unwrap(), expected, "{text}");
    }

    #[test]
    fn complete_incomplete_missing() {
        status(&[], "github_token", Status::Missing);
        status(&[("github_token/default/token", " x\n")], "github_token", Status::Complete);
        status(&[("github_token/default/token", " \u{a0}\n")], "github_token", Status::Incomplete(vec!["token"]));
        status(&[("github_token/default/.DS_Store", "x")], "github_token", Status::Missing);
        status(&[("github_token/default/token", "x")], "github_token:work", Status::Missing);
        status(&[("git_ssh/b/username", "x")], "git_ssh:b", Status::Incomplete(vec!["email"]));
        status(&[("git_ssh/b/username", "x"), ("git_ssh/b/email", "x")], "git_ssh:b", Status::Complete);
        status(&[("own_type/default/a", ""), ("own_type/default/b", "x")], "own_type", Status::Complete);
        status(&[("own_type/default/a", "")], "own_type", Status::Missing);
    }

    #[test]
    fn values_are_trimmed_and_bad_ones_named() {
        let (_dir, store) =
            store(&[("aws/eu/access_key_id", "\n AKIA \n"), ("aws/eu/big", &"x".repeat((1 << 20) + 1))]);
        let value = store.read(&reference("aws:eu"), "access_key_id").unwrap();
        assert_eq!(value.as_ref().map(Secret::expose), Some("AKIA"));
        assert!(store.read(&reference("aws:eu"), "absent").unwrap().is_none());
        let error = store.read_all(&reference("aws:eu")).err().unwrap();
        assert!(error.is::<CredentialError>() && error.to_string().contains("aws:eu: big"), "{error}");
    }

    #[test]
    fn links_do_not_lead_out() {
        let (dir, store) = store(&[("github_token/default/token", "x"), ("github_token/spare/other", "y")]);
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("token"), "stolen").unwrap();
        std::os::unix::fs::symlink(&outside, store.root().join("github_token/out")).unwrap();
        let within = store.root().join("github_token/default/token");
        std::os::unix::fs::symlink(within, store.root().join("github_token/spare/token")).unwrap();
        assert_eq!(store.status(&reference("github_token:out")).unwrap(), Status::Missing);
        assert_eq!(store.status(&reference("github_token:spare")).unwrap(), Status::Complete);
        assert_eq!(store.instances("github_token").unwrap(), ["default", "spare"]);
        assert!(!store.remove(&reference("github_token:out")).unwrap());
        assert!(outside.join("token").exists());
    }

    #[test]
    fn what_cannot_be_looked_at_is_not_missing() {
        let (_dir, store) = store(&[("github_token/default/other", "x")]);
        let token = store.root().join("github_token/default/token");
        // A link to itself, because root may look into everything.
        std::os::unix::fs::symlink(&token, &token).unwrap();
        let error = store.read(&reference("github_token"), "token").err().unwrap();
        assert!(format!("{error:#}").contains("github_token/default/token"), "{error:#}");
        assert!(store.status(&reference("github_token")).is_err());
    }

    #[test]
    fn listing_is_sorted_and_skips_what_is_hidden() {
        let (_dir, store) = store(&[("b/x/f", ""), ("a/y/f2", ""), ("a/y/f1", ""), ("a/y/.h", ""), ("a/.tmp/f", "")]);
        let listed = store.list().unwrap();
        let listed: Vec<String> =
            listed.into_iter().map(|(kind, instance, field)| format!("{kind}/{instance}/{field}")).collect();
        assert_eq!(listed, ["a/y/f1", "a/y/f2", "b/x/f"]);
    }

    #[test]
    fn writing_replaces_known_fields_keeps_others_and_tightens_modes() {
        let (_dir, store) = store(&[("git_ssh/default/id_rsa", "old"), ("git_ssh/default/known_hosts", "kept")]);
        assert!(!store.loose().is_empty());
        let git = reference("git_ssh");
        store.write(&git, &fields(&[("username", " Ann "), ("email", "a@x"), ("id_rsa", "")])).unwrap();
        let stored = store.read_all(&git).unwrap().unwrap();
        assert_eq!(stored.keys().collect::<Vec<_>>(), ["email", "known_hosts", "username"]);
        let path = store.root().join("git_ssh/default/username");
        assert_eq!(fs::read_to_string(&path).unwrap(), "Ann\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(store.loose(), Vec::<PathBuf>::new(), "also what was there before");
        assert_eq!(fs::read_dir(store.root().join("git_ssh")).unwrap().count(), 1);
    }

    #[test]
    fn a_new_store_is_private_and_removing_cleans_up() {
        let (_dir, store) = store(&[]);
        let token = reference("github_token:a");
        store.write(&token, &fields(&[("token", "x")])).unwrap();
        assert_eq!(store.loose(), Vec::<PathBuf>::new());
        assert!(store.remove(&token).unwrap());
        assert!(!store.remove(&token).unwrap());
        assert!(!store.root().join("github_token").exists());
    }
}
