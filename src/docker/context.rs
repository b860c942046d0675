//! Build contexts: what is sent to the daemon with a Dockerfile.
//!
//! A context is a tar archive that depends on nothing but its content: sorted, with explicit modes, without owners and
//! times. Equal contents give equal archives, so the daemon finds the layers that it has already.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use tar::{Builder, EntryType, Header};

use super::jumps;
use crate::base::ids::{hex, sha256_hex};
use crate::base::packed;
use crate::model::wire::paths::COMMANDS;

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
}

/// A reference text for agents and assistants, by its name below `agent-docs/`.
pub fn agent_doc(name: &str) -> Option<&'static str> {
    docs().iter().find(|(known, _)| known == name).map(|(_, content)| content.as_str())
}

/// All of them, unpacked when they are asked for first.
fn docs() -> &'static [(String, String)] {
    static DOCS: OnceLock<Vec<(String, String)>> = OnceLock::new();
    DOCS.get_or_init(|| packed::files(embedded::AGENT_DOCS))
}

/// Digest of all embedded files, computed when this program was built so that no start has to read them.
pub(crate) use embedded::EMBEDDED_SHA256;

/// Name of the Dockerfile in every context.
pub const DOCKERFILE: &str = "Dockerfile";
/// Directory of the in-container programs in an agent's context; in that of the base it is `bin`.
pub const PROGRAMS_DIR: &str = ".al-bin";
/// Directory of an agent's baked files.
pub const STATIC_DIR: &str = "static";

/// Files to send, by path.
#[derive(Default)]
pub struct Context {
    entries: BTreeMap<String, Entry>,
    /// What the digest covers in place of the embedded files.
    embedded: Vec<String>,
}

enum Entry {
    Directory,
    File { content: Content, mode: u32 },
    Link(String),
}

enum Content {
    Own(Vec<u8>),
    Embedded(&'static [u8]),
    /// A program, packed when this one was built.
    Packed(&'static [u8]),
}

impl Content {
    fn bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Own(bytes) => bytes.into(),
            Self::Embedded(bytes) => (*bytes).into(),
            Self::Packed(packed) => {
                let mut code = packed::unpack(packed);
                jumps::bring_into(&mut code, jumps::Form::Distances);
                code.into()
            }
        }
    }
}

impl Context {
    /// A context with this Dockerfile.
    pub fn new(dockerfile: &str) -> Self {
        let mut context = Self::default();
        context.add_file(DOCKERFILE, dockerfile.as_bytes().to_vec(), 0o644);
        context
    }

    /// Adds a file and the directories above it; what was there under that path is replaced.
    pub fn add_file(&mut self, path: &str, content: Vec<u8>, mode: u32) {
        self.add(path, Entry::File { content: Content::Own(content), mode });
    }

    /// Adds a symbolic link.
    pub fn add_link(&mut self, path: &str, target: &str) {
        self.add(path, Entry::Link(target.to_owned()));
    }

    /// Adds an agent's baked file, given by its path below `static/`.
    pub fn add_static(&mut self, path: &str, content: Vec<u8>) {
        self.add_file(&format!("{STATIC_DIR}/{path}"), content, 0o444);
    }

    /// Adds the in-container programs and the eleven commands.
    pub fn add_programs(&mut self, directory: &str) {
        for (name, content) in [("al-agent", embedded::AL_AGENT), ("al-shim", embedded::AL_SHIM)] {
            self.add(&format!("{directory}/{name}"), Entry::File { content: Content::Packed(content), mode: 0o755 });
        }
        for command in COMMANDS {
            self.add_link(&format!("{directory}/{command}"), "al-shim");
        }
        self.embedded.push(directory.to_owned());
    }

    /// Adds the reference texts for the model.
    pub fn add_docs(&mut self, directory: &str) {
        for (name, content) in docs() {
            let content = Content::Embedded(content.as_bytes());
            self.add(&format!("{directory}/{name}"), Entry::File { content, mode: 0o644 });
        }
        self.embedded.push(directory.to_owned());
    }

    fn add(&mut self, path: &str, entry: Entry) {
        for (end, _) in path.match_indices('/') {
            self.entries.entry(path[..end].to_owned()).or_insert(Entry::Directory);
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// Bytes of all files, embedded ones left out.
    pub fn size(&self) -> u64 {
        self.own_files().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// Paths and contents of the files that are not embedded.
    pub fn own_files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries.iter().filter_map(|(path, entry)| match entry {
            Entry::File { content: Content::Own(bytes), .. } => Some((path.as_str(), bytes.as_slice())),
            _ => None,
        })
    }

    /// SHA-256 over everything in it, in hex, and over `base`, what the image stands on.
    pub fn digest(&self, base: &str) -> String {
        let mut summary = format!("{base}\n");
        for directory in &self.embedded {
            summary.push_str(&format!("embedded {EMBEDDED_SHA256} {directory}\n"));
        }
        for (path, entry) in &self.entries {
            let (kind, of) = match entry {
                Entry::File { content: Content::Own(bytes), mode } => (format!("file {mode:o}"), sha256_hex(bytes)),
                Entry::Link(target) => ("link".to_owned(), hex(target.as_bytes())),
                Entry::Directory | Entry::File { content: Content::Embedded(_) | Content::Packed(_), .. } => continue,
            };
            summary.push_str(&format!("{kind} {of} {}\n", hex(path.as_bytes())));
        }
        sha256_hex(summary.as_bytes())
    }

    /// The archive.
    ///
    /// # Errors
    /// When a path does not fit into an archive.
    pub fn to_tar(&self) -> Result<Vec<u8>> {
        let mut archive = Builder::new(Vec::new());
        for (path, entry) in &self.entries {
            append(&mut archive, path, entry).with_context(|| format!("put {path} into the build context"))?;
        }
        archive.into_inner().context("finish the build context")
    }
}

fn append(archive: &mut Builder<Vec<u8>>, path: &str, entry: &Entry) -> std::io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    match entry {
        Entry::Directory => {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            archive.append_data(&mut header, Path::new(&format!("{path}/")), std::io::empty())
        }
        Entry::File { content, mode } => {
            header.set_entry_type(EntryType::Regular);
            header.set_mode(*mode);
            let bytes = content.bytes();
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, path, &*bytes)
        }
        Entry::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            archive.append_link(&mut header, path, target)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn listing(context: &Context) -> Vec<String> {
        let bytes = context.to_tar().unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let describe = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.unwrap();
            let header = entry.header().clone();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 0));
            assert!(header.as_ustar().is_some());
            let link = header.link_name().unwrap().map(|to| format!(" -> {}", to.display())).unwrap_or_default();
            let path = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let text = String::from_utf8(content).unwrap_or_default();
            format!("{:o} {path}{link} {text}", header.mode().unwrap()).trim_end().to_owned()
        };
        archive.entries().unwrap().map(describe).collect()
    }

    #[test]
    fn modes_are_explicit_and_entries_sorted() {
        let mut context = Context::new("FROM x\n");
        context.add_static("timeout", b"900".to_vec());
        context.add_static("mock/a.toml", b"m".to_vec());
        context.add_link("z", "static/timeout");
        assert_eq!(
            listing(&context),
            [
                "644 Dockerfile FROM x",
                "755 static/",
                "755 static/mock/",
                "444 static/mock/a.toml m",
                "444 static/timeout 900",
                "777 z -> static/timeout",
            ]
        );
    }

    #[test]
    fn the_programs_come_with_their_commands() {
        let mut context = Context::new("");
        context.add_programs(PROGRAMS_DIR);
        let found = listing(&context);
        assert!(found.contains(&"777 .al-bin/rlock -> al-shim".to_owned()), "{found:?}");
        assert_eq!(found.iter().filter(|line| line.contains("-> al-shim")).count(), 11);
        assert_eq!(found.iter().filter(|line| line.starts_with("755 .al-bin/al-")).count(), 2);
        assert_eq!(context.size(), 0);
    }

    #[test]
    fn what_is_packed_comes_out_as_it_went_in() {
        let programs = [(embedded::AL_AGENT, env!("AL_BIN_AL_AGENT")), (embedded::AL_SHIM, env!("AL_BIN_AL_SHIM"))];
        for (packed, path) in programs {
            assert!(Content::Packed(packed).bytes() == std::fs::read(path).unwrap(), "{path}");
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("agent-docs/skills/calls.md");
        assert_eq!(agent_doc("skills/calls.md"), Some(std::fs::read_to_string(path).unwrap().as_str()));
    }

    #[test]
    fn the_digest_changes_with_everything() {
        let digest = |change: &dyn Fn(&mut Context), base: &str| {
            let mut context = Context::new("FROM x\n");
            context.add_static("a", b"1".to_vec());
            change(&mut context);
            context.digest(base)
        };
        let digests = [
            digest(&|_| {}, "sha256:1"),
            digest(&|_| {}, "sha256:2"),
            digest(&|context| context.add_static("a", b"2".to_vec()), "sha256:1"),
            digest(&|context| context.add_static("b", Vec::new()), "sha256:1"),
            digest(&|context| context.add_file("static/a", b"1".to_vec(), 0o755), "sha256:1"),
            digest(&|context| context.add_link("l", "a"), "sha256:1"),
            digest(&|context| context.add_programs(PROGRAMS_DIR), "sha256:1"),
        ];
        let distinct: std::collections::BTreeSet<_> = digests.iter().collect();
        assert_eq!(distinct.len(), digests.len());
        assert_eq!(digest(&|_| {}, "sha256:1"), digests[0]);
    }
}
