//! Makes the prompt fit the model (agent-session.md §22.4): what is there before the first answer may take half of the
//! context window, so that there is room for work.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::prompt::Prompt;
use super::report::{Field, Reporter};
use crate::session::estimate;
use crate::session::provider::Model;

/// With less room than this, in tokens, it makes no sense to show a part of a trigger.
const LEAST_TRIGGER: u64 = 200;
/// Room for the words that stand in the place of what is left out, in tokens.
const NOTE: u64 = 100;

/// What goes with the prompt.
pub(super) struct Around<'a> {
    /// The system prompt, instructions included.
    pub system: &'a str,
    pub instructions: &'a str,
}

/// Tokens of the parts of the first request.
struct Sizes {
    instructions: u64,
    /// Everything else of the system prompt, and the tools.
    rest: u64,
    skeleton: u64,
    trigger: u64,
}

impl Sizes {
    fn of(prompt: &Prompt, around: &Around<'_>) -> Self {
        let size = |part: &Option<String>| part.as_deref().map_or(0, estimate::text);
        let instructions = estimate::text(around.instructions);
        Self {
            instructions,
            rest: estimate::text(around.system).saturating_sub(instructions) + estimate::tools(),
            skeleton: size(&prompt.skeleton),
            trigger: size(&prompt.trigger),
        }
    }

    fn total(&self) -> u64 {
        self.instructions + self.rest + self.skeleton + self.trigger
    }
}

/// Cuts the trigger in its middle if the prompt is too long for `model`, the first choice. `whole_trigger` gives the file that has all of
/// it.
///
/// # Errors
/// Everything else alone is too long, or there is no such file.
pub(super) fn fit(
    mut prompt: Prompt,
    around: &Around<'_>,
    model: &Model,
    whole_trigger: impl FnOnce(&str) -> Result<PathBuf>,
    report: &Reporter,
) -> Result<Prompt> {
    let sizes = Sizes::of(&prompt, around);
    let most = model.facts.context_window / 2;
    if sizes.total() <= most {
        return Ok(prompt);
    }
    let room = (most + sizes.trigger).saturating_sub(sizes.total() + NOTE);
    match prompt.trigger.take() {
        Some(trigger) if room >= LEAST_TRIGGER => {
            let file = whole_trigger(&trigger)?;
            let (shown, left_out) = without_middle(&trigger, room, &file);
            let name = file.to_string_lossy();
            let fields = [
                ("tokens", sizes.trigger.into()),
                ("charactersLeftOut", (left_out as u64).into()),
                ("file", Field::Text(&name)),
            ];
            report.warn("trigger shortened to fit the context window", &fields);
            prompt.trigger = Some(shown);
            Ok(prompt)
        }
        _ => bail!(too_long(&sizes, most, model)),
    }
}

fn too_long(sizes: &Sizes, most: u64, model: &Model) -> String {
    let Sizes { instructions, rest, skeleton, trigger } = sizes;
    format!(
        "the prompt is too long for {}:{}: about {instructions} tokens of ACTIONS.md, {rest} of the rest of the system \
         prompt and the tools, {skeleton} of the skeleton with params and credentials, {trigger} of the trigger; together \
         at most {most} are possible, half of the context window; shorten what is longest, or set model.contextWindow if \
         the window is larger",
        model.provider, model.id
    )
}

/// Beginning and end of a text, together of so many tokens, with a note between them; and how many characters are left
/// out.
fn without_middle(text: &str, tokens: u64, file: &Path) -> (String, usize) {
    let head = beginning(text.chars(), tokens / 2);
    let tail = beginning(text[head..].chars().rev(), tokens - tokens / 2);
    let (head, tail) = (&text[..head], &text[text.len() - tail..]);
    let left_out = text[head.len()..text.len() - tail.len()].chars().count();
    let note = format!(
        "\n\n[{left_out} characters are left out here because they do not fit. The whole text is in the file {}; look at \
         what you need of it with your tools.]\n\n",
        file.display()
    );
    (format!("{head}{note}{tail}"), left_out)
}

/// Bytes of the first characters that make so many tokens, as [`estimate::text`] counts them.
fn beginning(characters: impl Iterator<Item = char>, tokens: u64) -> usize {
    let quarters = |character: char| if character.is_ascii() { 1 } else { 4 };
    let used = characters.scan(0, |used, character| {
        *used += quarters(character);
        (*used <= 4 * tokens).then_some(character.len_utf8())
    });
    used.sum()
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::Lines;
    use super::*;
    use crate::session::registry::{Registry, Thinking};
    use crate::wire::config::ModelConfig;

    fn model(context_window: u64) -> Model {
        let facts = Registry::builtin().resolve(&ModelConfig::default()).facts;
        Model {
            provider: "custom".into(),
            id: "m".into(),
            api: "chat",
            base_url: None,
            thinking: Thinking::Off,
            facts: crate::session::registry::Facts { context_window, ..facts },
        }
    }

    /// What becomes of a prompt in a window, and the log lines.
    fn fitted(instructions: &str, skeleton: &str, trigger: &str, window: u64) -> (Result<Prompt>, Vec<String>) {
        let (report, lines) = Lines::new();
        let prompt = Prompt { skeleton: Some(skeleton.into()), trigger: Some(trigger.into()) };
        let system = format!("system {instructions}");
        let around = Around { system: &system, instructions };
        let file = |_: &str| Ok(PathBuf::from("/run/al/prompt.txt"));
        (fit(prompt, &around, &model(window), file, &report), lines.brief())
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let (prompt, lines) = fitted("Do it.", "skeleton", &"x".repeat(4 * 8000), 20_000);
        assert_eq!((prompt.unwrap().trigger.unwrap().len(), lines.len()), (32_000, 0));
    }

    #[test]
    fn a_long_trigger_loses_its_middle() {
        for filler in ["x", "\u{fc}", "y\u{6f22}"] {
            let trigger = format!("<webhook-trigger>{}</webhook-trigger>", filler.repeat(100_000));
            let (prompt, lines) = fitted("Do it.", "skeleton", &trigger, 20_000);
            let prompt = prompt.unwrap();
            let shown = prompt.trigger.clone().unwrap();
            assert!(shown.starts_with("<webhook-trigger>") && shown.ends_with("</webhook-trigger>"));
            assert!(shown.contains("left out here") && shown.contains("/run/al/prompt.txt"), "{filler}");
            let all = estimate::text(&prompt.join()) + estimate::text("system Do it.") + estimate::tools();
            assert!((9500..=10_000).contains(&all), "{all}");
            assert!(lines[0].starts_with("warn trigger shortened to fit the context window {"), "{lines:?}");
        }
    }

    #[test]
    fn what_cannot_be_cut_is_an_error_that_names_the_sizes() {
        let long = "x".repeat(4 * 9000);
        for (instructions, skeleton) in [(long.as_str(), "s"), ("i", long.as_str())] {
            let error = fitted(instructions, skeleton, &"t".repeat(4 * 5000), 18_000).0.err().unwrap().to_string();
            for part in ["custom:m", "9000", "ACTIONS.md", "5000 of the trigger", "at most 9000", "model.contextWindow"]
            {
                assert!(error.contains(part), "{error}");
            }
        }
    }
}
