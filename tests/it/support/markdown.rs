//! The pages that are written for people and models: their code blocks, tables and links.

use std::fs;
use std::path::{Path, PathBuf};

/// A page.
pub(crate) struct Page {
    /// Relative to the repository: `docs/agents.md`.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// A fenced block. The line that opens it is ```` ```<language> [<file>] [<mark>…] ````: with a file the block is that
/// whole file; marks say more about it, for example `warns` or `story`.
#[derive(Clone)]
pub(crate) struct Block {
    /// For messages: `docs/agents.md:17`.
    pub(crate) place: String,
    pub(crate) language: String,
    pub(crate) file: Option<String>,
    pub(crate) marks: Vec<String>,
    pub(crate) text: String,
}

/// A table.
pub(crate) struct Table {
    /// Nearest heading above it, without `#`.
    pub(crate) heading: String,
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// Everything in Markdown that this repository gives to people and models.
pub(crate) fn all_pages() -> Vec<Page> {
    let mut pages = vec![page("README.md")];
    for folder in ["docs", "agent-docs", "agent-docs/skills"] {
        pages.extend(pages_in(folder));
    }
    pages
}

/// The pages in a folder, by name.
pub(crate) fn pages_in(folder: &str) -> Vec<Page> {
    let mut names: Vec<String> = fs::read_dir(root().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".md"))
        .collect();
    names.sort();
    names.iter().map(|name| page(&format!("{folder}/{name}"))).collect()
}

/// One page.
pub(crate) fn page(name: &str) -> Page {
    let text = fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("read {name}: {error}"));
    Page { name: name.to_owned(), text }
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Parts of a text between backticks.
pub(crate) fn codes(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

impl Block {
    pub(crate) fn is_marked(&self, mark: &str) -> bool {
        self.marks.iter().any(|found| found == mark)
    }
}

impl Table {
    /// Number of the column with this header.
    pub(crate) fn column(&self, header: &str) -> Option<usize> {
        self.header.iter().position(|cell| cell == header)
    }
}

impl Page {
    /// Lines with their numbers, the heading above them, and whether they are inside a block.
    fn lines(&self) -> impl Iterator<Item = (usize, &str, String, bool)> {
        let (mut heading, mut fence) = (String::new(), None::<String>);
        self.text.lines().enumerate().map(move |(index, line)| {
            let marker: String = line.trim_start().chars().take_while(|c| *c == '`').collect();
            let is_fence = marker.len() >= 3;
            let inside = fence.is_some() || is_fence;
            match &fence {
                Some(open) if is_fence && marker == *open && line.trim() == marker => fence = None,
                None if is_fence => fence = Some(marker),
                None if line.starts_with('#') => heading = line.trim_start_matches('#').trim().to_owned(),
                _ => {}
            }
            (index + 1, line, heading.clone(), inside)
        })
    }

    pub(crate) fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut open = None::<(usize, String, Block)>;
        for (number, line, _, inside) in self.lines() {
            match open.take() {
                Some((_, marker, block)) if line.trim() == marker => blocks.push(block),
                Some((indent, marker, mut block)) => {
                    let cut = line.bytes().take(indent).take_while(|byte| *byte == b' ').count();
                    block.text += &line[cut..];
                    block.text.push('\n');
                    open = Some((indent, marker, block));
                }
                None if inside => {
                    let trimmed = line.trim_start();
                    let marker: String = trimmed.chars().take_while(|c| *c == '`').collect();
                    let mut words = trimmed[marker.len()..].split_whitespace().map(str::to_owned);
                    let language = words.next().unwrap_or_default();
                    let (files, marks): (Vec<String>, Vec<String>) =
                        words.partition(|word| word.contains(['/', '.']) || word == "Dockerfile");
                    let file = files.into_iter().next();
                    let place = format!("{}:{number}", self.name);
                    let block = Block { place, language, file, marks, text: String::new() };
                    open = Some((line.len() - trimmed.len(), marker, block));
                }
                None => {}
            }
        }
        assert!(open.is_none(), "{}: a block is not closed", self.name);
        blocks
    }

    pub(crate) fn tables(&self) -> Vec<Table> {
        let mut tables: Vec<Table> = Vec::new();
        let mut was_row = false;
        for (number, line, heading, inside) in self.lines() {
            let is_row = !inside && line.starts_with('|');
            if is_row && !was_row {
                tables.push(Table { heading, header: cells(line), rows: Vec::new() });
            } else if is_row && !line.starts_with("|---") {
                let table = tables.last_mut().expect("a row follows a header");
                let row = cells(line);
                assert_eq!(row.len(), table.header.len(), "{}:{number}: number of cells", self.name);
                table.rows.push(row);
            }
            was_row = is_row;
        }
        tables
    }

    /// Headings with the number of their `#`.
    pub(crate) fn headings(&self) -> Vec<(usize, String)> {
        let outside = self.lines().filter(|(_, line, _, inside)| !inside && line.starts_with('#'));
        outside.map(|(_, line, heading, _)| (line.len() - line.trim_start_matches('#').len(), heading)).collect()
    }

    /// Targets of links, with their lines.
    pub(crate) fn links(&self) -> Vec<(usize, String)> {
        let outside = self.lines().filter(|(_, _, _, inside)| !inside);
        let links = outside.flat_map(|(number, line, ..)| {
            let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
            targets.map(move |(target, _)| (number, target.to_owned())).collect::<Vec<_>>()
        });
        links.collect()
    }

    /// The names by which headings can be linked to, as they are made by those who show Markdown.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let anchor = |heading: String| {
            let kept = heading
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || "-_ ".contains(*c))
                .collect::<String>();
            kept.replace(' ', "-")
        };
        self.headings().into_iter().map(|(_, heading)| anchor(heading)).collect()
    }

    /// The file that a link in this page leads to, and its anchor.
    pub(crate) fn resolve(&self, target: &str) -> (PathBuf, Option<String>) {
        let (path, anchor) = match target.split_once('#') {
            Some((path, anchor)) => (path, Some(anchor.to_owned())),
            None => (target, None),
        };
        let own = root().join(&self.name);
        let path = if path.is_empty() { own } else { own.parent().unwrap_or(Path::new("/")).join(path) };
        (path, anchor)
    }
}

/// The cells of a row; a bar inside a cell is written `\|`.
fn cells(line: &str) -> Vec<String> {
    let inner = line.trim().trim_start_matches('|').strip_suffix('|').unwrap_or(line).replace("\\|", "\u{1}");
    inner.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
}
