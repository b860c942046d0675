//! Dockerfiles: the generated ones, and the changes made to those that users wrote. Pure text.
//!
//! Users write `FROM al-agent:latest`, whatever the version; the name is replaced by the base of this version. What is
//! not named in the rules stays as it is, byte for byte.

use std::ops::Range;

use anyhow::{Result, bail};

mod base;
mod instructions;

#[cfg(test)]
mod tests;

pub use base::base_recipe;

use instructions::{HereDocument, Instruction, Word, parse};

/// Reference in `FROM` that means "the layer below", with any tag.
const OUR_BASES: [&str; 2] = ["al-agent", "al-project-base"];
/// Copies the in-container programs from the context.
const COPY_PROGRAMS: [&str; 2] = [".al-bin/", "/app/bin/"];
/// Copies the agent's baked files from the context.
const COPY_STATIC: [&str; 2] = ["static/", "/app/static/"];

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
    let Survey { stages, replaced, needs_user_files } = Survey::of(source, &parsed.instructions);
    let uses_base = !replaced.is_empty();
    let mut edits: Vec<_> = replaced.into_iter().map(|range| (range, target.base.to_owned())).collect();
    let last = stages.last().expect("there is a FROM");
    let in_last = &parsed.instructions[last_from + 1..];
    // Package installation works without knowing that the base ends unprivileged.
    let as_root = last.is_replaced && !in_last.iter().any(|instruction| instruction.keyword == "USER");
    if as_root {
        let after = parsed.instructions[last_from].range.end;
        let line_break = if source[..after].ends_with('\n') { "" } else { "\n" };
        edits.push((after..after, format!("{line_break}USER root\n")));
    }
    let has_copy = |wanted| in_last.iter().any(|instruction| is_copy_of(instruction, source, wanted));
    let is_current = last.stands_on_base && target.base_programs == Programs::Current;
    let needs_programs = !is_current || has_copy(&COPY_PROGRAMS);
    let mut text = apply(source, edits);
    if as_root {
        append_line(&mut text, "USER node");
    }
    // Last, so that an edit of the instructions repeats nothing before it. COPY writes as root whatever the user is.
    if needs_programs && !has_copy(&COPY_PROGRAMS) {
        append_line(&mut text, "COPY .al-bin/ /app/bin/");
    }
    if target.kind == Kind::Agent && !has_copy(&COPY_STATIC) {
        append_line(&mut text, "COPY static/ /app/static/");
    }
    Ok(Transformed { text, uses_base, needs_programs, needs_user_files })
}

/// What the instructions say of the images and files that they use.
#[derive(Default)]
struct Survey {
    stages: Vec<Stage>,
    /// Where the base takes the place of one of our names.
    replaced: Vec<Range<usize>>,
    needs_user_files: bool,
}

impl Survey {
    fn of(source: &str, instructions: &[Instruction]) -> Self {
        let mut survey = Self::default();
        for instruction in instructions {
            survey.add(&instruction.keyword, &instruction.arguments(source));
        }
        survey
    }

    fn add(&mut self, keyword: &str, words: &[Word<'_>]) {
        match keyword {
            "FROM" => {
                let (stage, replaced) = from_stage(words, &self.stages);
                self.stages.push(stage);
                self.replaced.extend(replaced);
            }
            "COPY" | "ADD" => match words.iter().find_map(|word| word.strip_prefix("--from=")) {
                Some(image) if is_ours(image.text, &self.stages) => self.replaced.push(image.range),
                Some(_) => {}
                None => self.needs_user_files |= takes_user_files(words),
            },
            "RUN" => self.needs_user_files |= words.iter().any(|word| is_bind_of_context(word.text)),
            _ => {}
        }
    }
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

/// Whether it copies exactly this from the context.
fn is_copy_of(instruction: &Instruction, source: &str, wanted: &[&str; 2]) -> bool {
    let words = instruction.arguments(source);
    let from_context = !words.iter().any(|word| word.text.starts_with("--from="));
    instruction.keyword == "COPY" && from_context && copies(&words, wanted)
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

fn append_line(text: &mut String, line: &str) {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line);
    text.push('\n');
}
