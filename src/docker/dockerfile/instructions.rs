//! Reading a Dockerfile as Docker does: instructions and their words, continued lines, here-documents.

use std::ops::Range;

/// A Dockerfile, cut into instructions.
pub(super) struct Parsed {
    pub(super) instructions: Vec<Instruction>,
    pub(super) escape: char,
    /// The last instruction is continued on a line that is not there.
    pub(super) is_unfinished: bool,
}

/// An instruction and where it stands.
pub(super) struct Instruction {
    /// Upper case.
    pub(super) keyword: String,
    /// All its lines, here-documents and the final line break included.
    pub(super) range: Range<usize>,
    /// Its words, the keyword first.
    words: Vec<Range<usize>>,
}

/// A word and where it stands.
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    pub(super) range: Range<usize>,
}

impl<'a> Word<'a> {
    pub(super) fn strip_prefix(&self, prefix: &str) -> Option<Word<'a>> {
        let text = self.text.strip_prefix(prefix)?;
        Some(Word { text, range: self.range.start + prefix.len()..self.range.end })
    }
}

impl Instruction {
    pub(super) fn arguments<'a>(&self, source: &'a str) -> Vec<Word<'a>> {
        self.words[1..].iter().map(|range| Word { text: &source[range.clone()], range: range.clone() }).collect()
    }
}

/// Cuts a Dockerfile into instructions.
pub(super) fn parse(source: &str) -> Parsed {
    let escape = escape_character(source);
    let mut lines = Lines { source, at: if source.starts_with('\u{FEFF}') { '\u{FEFF}'.len_utf8() } else { 0 } };
    let mut instructions = Vec::new();
    while let Some(line) = lines.next() {
        if is_blank_or_comment(&source[line.clone()]) {
            continue;
        }
        let start = line.start;
        let mut splitter = Splitter::new(source, escape);
        let mut continued = splitter.line(line);
        while continued {
            let Some(line) = lines.next() else {
                return Parsed { instructions, escape, is_unfinished: true };
            };
            // Neither a comment nor a blank line ends a continuation.
            if !is_blank_or_comment(&source[line.clone()]) {
                continued = splitter.line(line);
            }
        }
        let words = splitter.words;
        let Some(keyword) = words.first().map(|range| source[range.clone()].to_uppercase()) else { continue };
        let triggered = if keyword == "ONBUILD" { words.get(1) } else { words.first() };
        let triggered = triggered.map_or(String::new(), |range| source[range.clone()].to_uppercase());
        if matches!(triggered.as_str(), "RUN" | "COPY" | "ADD") {
            for document in words.iter().filter_map(|range| HereDocument::parse(&source[range.clone()])) {
                while lines.next().is_some_and(|line| !document.ends_at(&source[line])) {}
            }
        }
        instructions.push(Instruction { keyword, range: start..lines.at, words });
    }
    Parsed { instructions, escape, is_unfinished: false }
}

/// The directive `# escape=` counts only above everything that is no directive.
fn escape_character(source: &str) -> char {
    for line in source.trim_start_matches('\u{FEFF}').lines() {
        let Some((name, value)) = line.trim().strip_prefix('#').and_then(|text| text.split_once('=')) else { break };
        let name = name.trim();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric()) {
            break;
        }
        if name.eq_ignore_ascii_case("escape") {
            return if value.trim() == "`" { '`' } else { '\\' };
        }
    }
    '\\'
}

fn is_blank_or_comment(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// Lines as ranges without their ends.
struct Lines<'a> {
    source: &'a str,
    at: usize,
}

impl Iterator for Lines<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let rest = &self.source[self.at..];
        if rest.is_empty() {
            return None;
        }
        let start = self.at;
        let (line, length) = rest.split_once('\n').map_or((rest, rest.len()), |(line, _)| (line, line.len() + 1));
        self.at += length;
        Some(start..start + line.strip_suffix('\r').unwrap_or(line).len())
    }
}

/// Splits the lines of one instruction into words as a shell would, so that `<<` within quotes starts no here-document.
struct Splitter<'a> {
    source: &'a str,
    escape: char,
    words: Vec<Range<usize>>,
    quote: Option<char>,
}

impl<'a> Splitter<'a> {
    fn new(source: &'a str, escape: char) -> Self {
        Self { source, escape, words: Vec::new(), quote: None }
    }

    /// Takes a line and says whether the instruction goes on in the next one.
    fn line(&mut self, range: Range<usize>) -> bool {
        let text = self.source[range.clone()].trim_end_matches([' ', '\t']);
        let continued = text.strip_suffix(self.escape).filter(|before| !before.ends_with(self.escape));
        let body = continued.unwrap_or(text);
        let mut word: Option<usize> = None;
        let mut escaped = false;
        for (offset, c) in body.char_indices() {
            let at = range.start + offset;
            if c.is_whitespace() && self.quote.is_none() && !escaped {
                self.words.extend(word.take().map(|start| start..at));
                continue;
            }
            word.get_or_insert(at);
            match self.quote {
                _ if escaped => escaped = false,
                Some('"') | None if c == self.escape => escaped = true,
                Some(quote) if c == quote => self.quote = None,
                None if c == '"' || c == '\'' => self.quote = Some(c),
                _ => {}
            }
        }
        self.words.extend(word.map(|start| start..range.start + body.len()));
        continued.is_some()
    }
}

/// The start of a here-document: `<<EOF`, `<<-EOF`, `<<"EOF"`, `3<<EOF`.
pub(super) struct HereDocument {
    end: String,
    strips_tabs: bool,
}

impl HereDocument {
    pub(super) fn parse(word: &str) -> Option<Self> {
        let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
        let (rest, strips_tabs) = rest.strip_prefix('-').map_or((rest, false), |rest| (rest, true));
        let end: String = rest.chars().filter(|c| !matches!(c, '"' | '\'' | '\\')).collect();
        (!end.is_empty() && !rest.contains('<')).then_some(Self { end, strips_tabs })
    }

    fn ends_at(&self, line: &str) -> bool {
        let line = if self.strips_tabs { line.trim_start_matches('\t') } else { line };
        line == self.end
    }
}
