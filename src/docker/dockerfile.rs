//! Dockerfiles: the generated base recipe, and the changes made to those that users wrote. Pure text.
//!
//! Users write `FROM al-agent:latest`, whatever the version; the name is replaced by the base of this version. What is
//! not named in the rules stays as it is, byte for byte.

use std::ops::Range;

use anyhow::{Result, bail};

/// Reference in `FROM` that means "the layer below", with any tag.
const OUR_BASES: [&str; 2] = ["al-agent", "al-project-base"];
/// Copies the in-container programs from the context.
const COPY_PROGRAMS: [&str; 2] = [".al-bin/", "/app/bin/"];
/// Copies the agent's baked files from the context.
const COPY_STATIC: [&str; 2] = ["static/", "/app/static/"];

/// The base image's Dockerfile. Uses nothing that only one of Docker's two builders knows.
///
/// `digest` is `None` for the text that the digest is made from.
pub fn base_recipe(base: &str, source_url: &str, digest: Option<&str>) -> String {
    let labels = [("org.opencontainers.image.source", source_url), ("al.base-digest", digest.unwrap_or_default())];
    let labels: String = labels
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("LABEL {name}=\"{value}\"\n"))
        .collect();
    format!(
        r#"FROM {base}
USER root
RUN set -e; miss=""; \
    for c in bash git curl jq ssh; do command -v "$c" >/dev/null 2>&1 || miss=1; done; \
    [ -s /etc/ssl/certs/ca-certificates.crt ] || miss=1; \
    if [ -n "$miss" ]; then \
      if command -v apk >/dev/null 2>&1; then \
        apk add --no-cache bash git curl jq ca-certificates openssh-client; \
      elif command -v apt-get >/dev/null 2>&1; then \
        apt-get update; \
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
          bash git curl jq ca-certificates openssh-client; \
        rm -rf /var/lib/apt/lists/*; \
      else echo "base image has neither apk nor apt-get" >&2; exit 1; fi; \
    fi; \
    grep -q '^node:' /etc/group  || echo 'node:x:1000:' >> /etc/group; \
    grep -q '^node:' /etc/passwd || echo 'node:x:1000:1000:agent:/home/node:/bin/sh' >> /etc/passwd; \
    mkdir -p /home/node /app/static; chown 1000:1000 /home/node; \
    [ -e /workspace ] || [ -L /workspace ] || ln -s /tmp/workspace /workspace
COPY bin/ /app/bin/
COPY agent-docs/ /app/agent-docs/
ARG GIT_SHA=unknown
ARG VERSION=unknown
LABEL org.opencontainers.image.revision=$GIT_SHA
LABEL org.opencontainers.image.version=$VERSION
{labels}WORKDIR /app
USER node
ENTRYPOINT ["/app/bin/al-agent"]
"#
    )
}

/// Whether a project's Dockerfile does anything: more than one line that is neither blank nor a comment.
pub fn is_customised(text: &str) -> bool {
    let counts = |line: &&str| !line.is_empty() && !line.starts_with('#');
    text.lines().map(str::trim).filter(counts).count() > 1
}

/// Whose Dockerfile is transformed, and on what.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The file, for errors.
    pub file: &'a str,
    /// What our names in `FROM` are replaced by.
    pub base: &'a str,
    pub base_programs: Programs,
    pub kind: Kind,
}

/// Whether the base contains the programs that would be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Programs {
    Current,
    Unknown,
}

/// Which layer a Dockerfile makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    ProjectBase,
    /// The baked files of an agent are copied in.
    Agent,
}

/// A Dockerfile ready to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transformed {
    pub text: String,
    /// The base occurs in it: a change of the base changes the image.
    pub uses_base: bool,
    /// `.al-bin/` has to be in the context.
    pub needs_programs: bool,
    /// It copies files that are not ours.
    pub needs_user_files: bool,
}

/// The Dockerfile of an agent that has none of its own.
pub fn default_agent(base: &str, base_programs: Programs) -> Transformed {
    let needs_programs = base_programs != Programs::Current;
    let programs = if needs_programs { "COPY .al-bin/ /app/bin/\n" } else { "" };
    let text = format!("FROM {base}\n{programs}COPY static/ /app/static/\n");
    Transformed { text, uses_base: true, needs_programs, needs_user_files: false }
}

/// Whether a Dockerfile copies files that stand beside it, so that these are part of its image. A broken one does not.
pub fn copies_user_files(source: &str) -> bool {
    let target = Target { file: "Dockerfile", base: OUR_BASES[0], base_programs: Programs::Unknown, kind: Kind::Agent };
    transform(source, target).is_ok_and(|transformed| transformed.needs_user_files)
}

/// Puts the base, the programs and the agent's files into a user's Dockerfile.
///
/// # Errors
/// When there is no `FROM`, or the file ends within an instruction.
pub fn transform(source: &str, target: Target<'_>) -> Result<Transformed> {
    let file = target.file;
    let parsed = parse(source);
    if parsed.is_unfinished {
        bail!("{file}: the last line ends in \"{}\": write the rest of the instruction, or remove it", parsed.escape);
    }
    let Some(last_from) = parsed.instructions.iter().rposition(|instruction| instruction.keyword == "FROM") else {
        bail!("{file}: has no FROM; begin it with: FROM al-agent:latest");
    };
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    let mut needs_user_files = false;
    for instruction in &parsed.instructions {
        let words = instruction.arguments(source);
        match instruction.keyword.as_str() {
            "FROM" => {
                let (stage, replaced) = from_stage(&words, &stages);
                stages.push(stage);
                edits.extend(replaced.map(|range| (range, target.base.to_owned())));
            }
            "COPY" | "ADD" => match words.iter().find_map(|word| word.strip_prefix("--from=")) {
                Some(image) if is_ours(image.text, &stages) => edits.push((image.range, target.base.to_owned())),
                Some(_) => {}
                None => needs_user_files |= takes_user_files(&words),
            },
            "RUN" => needs_user_files |= words.iter().any(|word| is_bind_of_context(word.text)),
            _ => {}
        }
    }
    let uses_base = !edits.is_empty();
    let last = stages.last().expect("there is a FROM");
    let in_last = &parsed.instructions[last_from + 1..];
    let sets_user = in_last.iter().any(|instruction| instruction.keyword == "USER");
    let as_root = last.is_replaced && !sets_user;
    if as_root {
        // Package installation works without knowing that the base ends unprivileged.
        let after = parsed.instructions[last_from].range.end;
        let line_break = if source[..after].ends_with('\n') { "" } else { "\n" };
        edits.push((after..after, format!("{line_break}USER root\n")));
    }
    let has_copy = |wanted: &[&str; 2]| {
        in_last.iter().any(|instruction| {
            let words = instruction.arguments(source);
            let from_context = !words.iter().any(|word| word.text.starts_with("--from="));
            instruction.keyword == "COPY" && from_context && copies(&words, wanted)
        })
    };
    let current = last.stands_on_base && target.base_programs == Programs::Current;
    let needs_programs = !current || has_copy(&COPY_PROGRAMS);
    let mut text = apply(source, edits);
    let mut append = |line: &str| {
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(line);
        text.push('\n');
    };
    if as_root {
        append("USER node");
    }
    // Last, so that an edit of the instructions repeats nothing before it. COPY writes as root whatever the user is.
    if needs_programs && !has_copy(&COPY_PROGRAMS) {
        append("COPY .al-bin/ /app/bin/");
    }
    if target.kind == Kind::Agent && !has_copy(&COPY_STATIC) {
        append("COPY static/ /app/static/");
    }
    Ok(Transformed { text, uses_base, needs_programs, needs_user_files })
}

/// A build stage seen so far.
struct Stage {
    /// Name given with `AS`, lower case.
    name: Option<String>,
    /// Its `FROM` named one of our images.
    is_replaced: bool,
    /// Perhaps by way of other stages.
    stands_on_base: bool,
}

/// Reads the arguments of a `FROM`; gives what has to be replaced.
fn from_stage(words: &[Word<'_>], earlier: &[Stage]) -> (Stage, Option<Range<usize>>) {
    let mut names = words.iter().skip_while(|word| word.text.starts_with("--"));
    let image = names.next();
    let alias = names.next().filter(|word| word.text.eq_ignore_ascii_case("as")).and_then(|_| names.next());
    let replaced = image.filter(|image| is_ours(image.text, earlier)).map(|image| image.range.clone());
    let parent = image.and_then(|image| find_stage(image.text, earlier));
    let stage = Stage {
        name: alias.map(|alias| alias.text.to_lowercase()),
        is_replaced: replaced.is_some(),
        stands_on_base: replaced.is_some() || parent.is_some_and(|stage| stage.stands_on_base),
    };
    (stage, replaced)
}

fn find_stage<'a>(name: &str, stages: &'a [Stage]) -> Option<&'a Stage> {
    let name = name.to_lowercase();
    stages.iter().rev().find(|stage| stage.name.as_deref() == Some(name.as_str()))
}

/// Whether a reference means one of our images. A stage of that name hides the image.
fn is_ours(reference: &str, stages: &[Stage]) -> bool {
    let name = reference.split_once(':').map_or(reference, |(name, _)| name);
    OUR_BASES.contains(&name) && find_stage(reference, stages).is_none()
}

/// Whether the arguments of a `COPY` are exactly this source and target; flags do not count.
fn copies(words: &[Word<'_>], wanted: &[&str; 2]) -> bool {
    let plain: Vec<&str> = words.iter().map(|word| word.text).skip_while(|word| word.starts_with("--")).collect();
    if plain == wanted {
        return true;
    }
    let json: Result<Vec<String>, _> = serde_json::from_str(&plain.join(" "));
    json.is_ok_and(|list| list == wanted)
}

/// Whether a `COPY` or `ADD` from the context takes anything that is not ours.
fn takes_user_files(words: &[Word<'_>]) -> bool {
    let names: Vec<&str> = words.iter().map(|word| word.text).skip_while(|word| word.starts_with("--")).collect();
    let Some((_, sources)) = names.split_last() else { return false };
    let is_elsewhere = |source: &&str| source.contains("://") || HereDocument::parse(source).is_some();
    !copies(words, &COPY_PROGRAMS) && !copies(words, &COPY_STATIC) && !sources.iter().all(is_elsewhere)
}

fn is_bind_of_context(word: &str) -> bool {
    let options = word.strip_prefix("--mount=").map(|options| options.split(',').collect::<Vec<_>>());
    options.is_some_and(|options| {
        let has_type = options.iter().find_map(|option| option.strip_prefix("type="));
        has_type.is_none_or(|kind| kind == "bind") && !options.iter().any(|option| option.starts_with("from="))
    })
}

fn apply(source: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    let mut text = String::with_capacity(source.len() + 256);
    let mut done = 0;
    for (range, replacement) in edits {
        text.push_str(&source[done..range.start]);
        text.push_str(&replacement);
        done = range.end;
    }
    text.push_str(&source[done..]);
    text
}

struct Parsed {
    instructions: Vec<Instruction>,
    escape: char,
    /// The last instruction is continued on a line that is not there.
    is_unfinished: bool,
}

struct Instruction {
    /// Upper case.
    keyword: String,
    /// All its lines, here-documents and the final line break included.
    range: Range<usize>,
    /// Its words, the keyword first.
    words: Vec<Range<usize>>,
}

/// A word and where it stands.
struct Word<'a> {
    text: &'a str,
    range: Range<usize>,
}

impl<'a> Word<'a> {
    fn strip_prefix(&self, prefix: &str) -> Option<Word<'a>> {
        let text = self.text.strip_prefix(prefix)?;
        Some(Word { text, range: self.range.start + prefix.len()..self.range.end })
    }
}

impl Instruction {
    fn arguments<'a>(&self, source: &'a str) -> Vec<Word<'a>> {
        self.words[1..].iter().map(|range| Word { text: &source[range.clone()], range: range.clone() }).collect()
    }
}

/// Cuts a Dockerfile into instructions.
fn parse(source: &str) -> Parsed {
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
struct HereDocument {
    end: String,
    strips_tabs: bool,
}

impl HereDocument {
    fn parse(word: &str) -> Option<Self> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use std::fs;
    use std::path::Path;

    fn agent(base_programs: Programs) -> Target<'static> {
        Target { file: "agents/dev/Dockerfile", base: "al-agent:1a2b3c4d", base_programs, kind: Kind::Agent }
    }

    #[track_caller]
    fn case(source: &str, expected: Expect) -> Transformed {
        let transformed = transform(source, agent(Programs::Current)).unwrap();
        expected.assert_eq(&transformed.text);
        transformed
    }

    #[test]
    fn base_recipes_differ_in_the_base_alone() {
        let alpine = base_recipe("alpine:3.22", "https://example.org/al", Some("d1"));
        let debian = base_recipe("debian:bookworm-slim", "https://example.org/al", Some("d1"));
        assert_eq!(alpine.replace("alpine:3.22", "debian:bookworm-slim"), debian);
        expect![[r#"
            FROM debian:bookworm-slim
            USER root
            RUN set -e; miss=""; \
                for c in bash git curl jq ssh; do command -v "$c" >/dev/null 2>&1 || miss=1; done; \
                [ -s /etc/ssl/certs/ca-certificates.crt ] || miss=1; \
                if [ -n "$miss" ]; then \
                  if command -v apk >/dev/null 2>&1; then \
                    apk add --no-cache bash git curl jq ca-certificates openssh-client; \
                  elif command -v apt-get >/dev/null 2>&1; then \
                    apt-get update; \
                    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
                      bash git curl jq ca-certificates openssh-client; \
                    rm -rf /var/lib/apt/lists/*; \
                  else echo "base image has neither apk nor apt-get" >&2; exit 1; fi; \
                fi; \
                grep -q '^node:' /etc/group  || echo 'node:x:1000:' >> /etc/group; \
                grep -q '^node:' /etc/passwd || echo 'node:x:1000:1000:agent:/home/node:/bin/sh' >> /etc/passwd; \
                mkdir -p /home/node /app/static; chown 1000:1000 /home/node; \
                [ -e /workspace ] || [ -L /workspace ] || ln -s /tmp/workspace /workspace
            COPY bin/ /app/bin/
            COPY agent-docs/ /app/agent-docs/
            ARG GIT_SHA=unknown
            ARG VERSION=unknown
            LABEL org.opencontainers.image.revision=$GIT_SHA
            LABEL org.opencontainers.image.version=$VERSION
            LABEL org.opencontainers.image.source="https://example.org/al"
            LABEL al.base-digest="d1"
            WORKDIR /app
            USER node
            ENTRYPOINT ["/app/bin/al-agent"]
        "#]]
        .assert_eq(&debian);
        assert!(!base_recipe("alpine:3.22", "", None).contains("al.base-digest"));
    }

    #[track_caller]
    fn customised(text: &str, expected: bool) {
        assert_eq!(is_customised(text), expected, "{text:?}");
    }

    #[test]
    fn a_project_dockerfile_counts_when_it_does_something() {
        customised("", false);
        customised("# only\n\n  # comments\n", false);
        customised("FROM al-agent:latest\n", false);
        customised("# why\nFROM al-agent:latest\n\n   \n", false);
        customised("RUN apk add jq\n", false);
        customised("FROM al-agent:latest\nRUN apk add jq\n", true);
        customised("RUN apk add \\\n  jq\n", true);
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/projects/dockerfiles");
        let read = |path: &str| fs::read_to_string(fixtures.join(path)).unwrap();
        let expected: serde_json::Value = serde_json::from_str(&read("expected.json")).unwrap();
        for (name, kind) in expected["variants"].as_object().unwrap() {
            let text = read(&format!("variants/{name}.Dockerfile"));
            customised(&text, kind == "customised");
            let ours = if kind == "customised" { !text.contains("FROM debian") } else { continue };
            let found = transform(&text, agent(Programs::Current)).unwrap();
            assert!(found.uses_base && found.text.contains("al-agent:1a2b3c4d"), "{name}: {}", found.text);
            assert_eq!(found.needs_programs, !ours, "{name}");
        }
    }

    #[test]
    fn an_agent_without_a_dockerfile() {
        let found = default_agent("al-agent:1a2b3c4d", Programs::Current);
        assert_eq!(found.text, "FROM al-agent:1a2b3c4d\nCOPY static/ /app/static/\n");
        assert!(found.uses_base && !found.needs_programs && !found.needs_user_files);
        let found = default_agent("mine:1", Programs::Unknown);
        assert_eq!(found.text, "FROM mine:1\nCOPY .al-bin/ /app/bin/\nCOPY static/ /app/static/\n");
        assert!(found.needs_programs);
    }

    #[test]
    fn packages_need_no_user_lines() {
        case(
            "FROM al-agent:latest\nRUN apk add jq",
            expect![[r#"
            FROM al-agent:1a2b3c4d
            USER root
            RUN apk add jq
            USER node
            COPY static/ /app/static/
        "#]],
        );
    }

    #[test]
    fn a_file_with_user_lines_keeps_them() {
        case(
            "FROM al-agent:0.12.1\nUSER root\nRUN apk add jq\nUSER node\n",
            expect![[r#"
            FROM al-agent:1a2b3c4d
            USER root
            RUN apk add jq
            USER node
            COPY static/ /app/static/
        "#]],
        );
    }

    #[test]
    fn lower_case_flags_and_aliases() {
        let text = "# Tools\r\nfrom --platform=linux/amd64 al-agent as tools\r\nrun true\r\n";
        assert_eq!(
            transform(text, agent(Programs::Current)).unwrap().text,
            "# Tools\r\nfrom --platform=linux/amd64 al-agent:1a2b3c4d as tools\r\nUSER root\nrun true\r\nUSER node\n\
             COPY static/ /app/static/\n"
        );
    }

    #[test]
    fn every_stage_and_copies_between_them() {
        case(
            "FROM golang:1.25 AS build\nUSER me\nRUN go build\nFROM al-project-base:latest AS mid\nRUN true\n\
             FROM al-agent\nCOPY --from=build /x /x\nCOPY --from=al-agent:latest /app/bin/al-call /c\n\
             COPY --chown=1:1 --from=al-project-base /y /y\n",
            expect![[r#"
                FROM golang:1.25 AS build
                USER me
                RUN go build
                FROM al-agent:1a2b3c4d AS mid
                RUN true
                FROM al-agent:1a2b3c4d
                USER root
                COPY --from=build /x /x
                COPY --from=al-agent:1a2b3c4d /app/bin/al-call /c
                COPY --chown=1:1 --from=al-agent:1a2b3c4d /y /y
                USER node
                COPY static/ /app/static/
            "#]],
        );
    }

    #[test]
    fn a_standalone_image_stays_and_gets_the_programs() {
        let found = case(
            "FROM python:3.13\nRUN pip install x\n",
            expect![[r#"
            FROM python:3.13
            RUN pip install x
            COPY .al-bin/ /app/bin/
            COPY static/ /app/static/
        "#]],
        );
        assert!(!found.uses_base && found.needs_programs);
    }

    #[test]
    fn a_stage_may_have_the_name_of_our_image() {
        let found = case(
            "FROM debian AS al-agent\nFROM al-agent\n",
            expect![[r#"
            FROM debian AS al-agent
            FROM al-agent
            COPY .al-bin/ /app/bin/
            COPY static/ /app/static/
        "#]],
        );
        assert!(!found.uses_base && found.needs_programs);
    }

    #[test]
    fn a_last_stage_that_stands_on_ours_by_way_of_another() {
        let found = case(
            "FROM al-agent AS tools\nUSER root\nRUN true\nFROM Tools\nCOPY a b /c/\n",
            expect![[r#"
            FROM al-agent:1a2b3c4d AS tools
            USER root
            RUN true
            FROM Tools
            COPY a b /c/
            COPY static/ /app/static/
        "#]],
        );
        assert!(found.uses_base && !found.needs_programs && found.needs_user_files);
    }

    #[test]
    fn names_that_only_begin_like_ours_stay() {
        let same = "FROM al-agent-tools:1\nFROM registry.example/al-agent:1\nFROM $BASE\nUSER x\n";
        let found = transform(same, agent(Programs::Current)).unwrap();
        assert!(found.text.starts_with(same) && !found.uses_base);
    }

    #[test]
    fn what_looks_like_an_instruction_in_a_here_document_is_none() {
        case(
            "FROM al-agent\nRUN <<-\"EOF\" cat\n\tFROM al-agent\n\tUSER x\n\tEOF\nRUN echo '<<X'\n\
             COPY <<A <<B /etc/\nUSER a\nA\nUSER b \\\nB\nRUN cat <<<x\n",
            expect![[r#"
                FROM al-agent:1a2b3c4d
                USER root
                RUN <<-"EOF" cat
                	FROM al-agent
                	USER x
                	EOF
                RUN echo '<<X'
                COPY <<A <<B /etc/
                USER a
                A
                USER b \
                B
                RUN cat <<<x
                USER node
                COPY static/ /app/static/
            "#]],
        );
    }

    #[test]
    fn comments_and_blank_lines_do_not_end_a_continuation() {
        case(
            "FROM al-agent\nRUN apk add \\\n  # the tool\n\n  jq \\  \n  && true\n# USER x\n",
            expect![[r#"
                FROM al-agent:1a2b3c4d
                USER root
                RUN apk add \
                  # the tool

                  jq \  
                  && true
                # USER x
                USER node
                COPY static/ /app/static/
            "#]],
        );
        case(
            "# escape=`\nFROM al-agent\nRUN dir `\n && echo c:\\\n",
            expect![[r#"
            # escape=`
            FROM al-agent:1a2b3c4d
            USER root
            RUN dir `
             && echo c:\
            USER node
            COPY static/ /app/static/
        "#]],
        );
        // Below a comment it is one itself.
        let text = "# a comment\n# escape=`\nFROM al-agent\nRUN a \\\n b\n";
        assert!(transform(text, agent(Programs::Current)).is_ok());
    }

    #[test]
    fn instructions_that_are_there_are_not_repeated() {
        let text = "FROM al-agent\nUSER root\nCOPY --chmod=0444 static/ /app/static/\n#COPY .al-bin/ /app/bin/\n";
        assert_eq!(
            transform(text, agent(Programs::Current)).unwrap().text,
            text.replace("al-agent", "al-agent:1a2b3c4d")
        );
        let text = "FROM python\ncopy [\".al-bin/\", \"/app/bin/\"]\nCOPY static/ /app/static/\n";
        let found = transform(text, agent(Programs::Current)).unwrap();
        assert_eq!(found.text, text);
        assert!(found.needs_programs && !found.needs_user_files);
    }

    #[test]
    fn a_copy_in_an_earlier_stage_does_not_count() {
        case(
            "FROM al-agent AS a\nCOPY static/ /app/static/\nFROM al-agent\nUSER node\n",
            expect![[r#"
            FROM al-agent:1a2b3c4d AS a
            COPY static/ /app/static/
            FROM al-agent:1a2b3c4d
            USER node
            COPY static/ /app/static/
        "#]],
        );
    }

    #[test]
    fn a_project_base_gets_no_baked_files() {
        let project = |base_programs| Target { kind: Kind::ProjectBase, base: "mine:1", ..agent(base_programs) };
        let text = "FROM al-project-base:latest\nUSER root\nRUN true\n";
        let found = transform(text, project(Programs::Current)).unwrap();
        assert_eq!(found.text, "FROM mine:1\nUSER root\nRUN true\n");
        let found = transform("FROM python\nRUN true\n", project(Programs::Current)).unwrap();
        assert_eq!(found.text, "FROM python\nRUN true\nCOPY .al-bin/ /app/bin/\n");
    }

    #[track_caller]
    fn user_files(line: &str, expected: bool) {
        let found = transform(&format!("FROM al-agent\n{line}\n"), agent(Programs::Current)).unwrap();
        assert_eq!(found.needs_user_files, expected, "{line}");
    }

    #[test]
    fn instructions_that_take_files_of_the_user() {
        user_files("RUN true", false);
        user_files("COPY requirements.txt /tmp/", true);
        user_files("COPY [\"a\", \"/tmp/\"]", true);
        user_files("COPY --from=build /a /b", false);
        user_files("ADD https://example.org/x /x", false);
        user_files("COPY <<EOF /x\ntext\nEOF", false);
        user_files("RUN --mount=type=bind,target=/src make", true);
        user_files("RUN --mount=type=cache,target=/root/.cache make", false);
        user_files("RUN --mount=from=build,target=/src make", false);
    }

    #[track_caller]
    fn refused(text: &str, part: &str) {
        let error = transform(text, agent(Programs::Current)).unwrap_err().to_string();
        assert!(error.contains("agents/dev/Dockerfile") && error.contains(part), "{error}");
    }

    #[test]
    fn broken_files_are_named() {
        refused("RUN true\n", "FROM");
        refused("# FROM al-agent\n", "FROM");
        refused("FROM al-agent\nRUN a \\\n", "\\");
        refused("FROM al-agent\nRUN a \\\n\n# comment", "\\");
    }

    mod props {
        use super::*;
        use proptest::prelude::*;

        proptest! {
            #[test]
            fn any_text_is_read_without_harm(text in "(FROM al-agent|RUN|COPY|<<A|A|\\\\|\"|'|#|=|`|ü| |\n){0,40}") {
                let _ = transform(&text, agent(Programs::Current));
            }
        }
    }
}
