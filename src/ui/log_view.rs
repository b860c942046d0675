//! The views of log entries (scheduler.md §14). Pure.

use serde_json::{Map, Value};

use crate::base::log::{Entry, Level};
use crate::base::term::{Style, sgr};
use crate::base::text::{cut, printable, printable_json, single_line};

/// Indent of lines that belong to the line above them: as wide as a time and two blanks.
const INDENT: &str = "          ";
/// Longest detail below or behind a line, in characters.
const LONGEST_DETAIL: usize = 300;
/// Width that the rule above a run's first line is filled up to.
const RULE_WIDTH: usize = 60;

/// Members that the raw view shows in their own way, or not at all.
const NOT_THE_REST: [&str; 7] = ["level", "time", "msg", "name", "instance", "pid", "hostname"];

/// An entry as one line with everything that is in it.
pub fn raw(entry: &Entry, style: Style) -> String {
    let level = entry.fields.get("level").and_then(Value::as_i64).unwrap_or(i64::from(entry.level.number()));
    let (code, word) = match level {
        10 => (sgr::GRAY, "TRACE".to_owned()),
        20 => (sgr::CYAN, "DEBUG".to_owned()),
        30 => (sgr::GREEN, "INFO ".to_owned()),
        40 => (sgr::YELLOW, "WARN ".to_owned()),
        50 => (sgr::RED, "ERROR".to_owned()),
        other => (sgr::WHITE, format!("{:5}", format!("L{other}"))),
    };
    let head = style.paint(code, &format!("{} {word}", entry.time.local_time()));
    let line = Line { style, entry };
    let text = printable(&entry.msg).replace('\n', "\\n") + &line.rest(usize::MAX);
    format!("{head} {}{}", line.instance(), style.paint(code, &text))
}

/// The lines of an entry in the conversation; none when this view hides it. `name` is the log's name.
pub fn conversation(entry: &Entry, name: &str, style: Style) -> Vec<String> {
    if is_beside_the_conversation(entry) { Vec::new() } else { shown(entry, name, style) }
}

/// As [`conversation`], with what that hides: each such entry in one line with its members.
pub fn everything(entry: &Entry, name: &str, style: Style) -> Vec<String> {
    if !is_beside_the_conversation(entry) {
        return shown(entry, name, style);
    }
    let line = Line { style, entry };
    vec![line.with(sgr::DIM, &format!("{}{}", single_line(&entry.msg), line.rest(LONGEST_DETAIL)))]
}

fn is_beside_the_conversation(entry: &Entry) -> bool {
    let msg = entry.msg.as_str();
    matches!(msg, "event" | "tool done") || (entry.level <= Level::Debug && msg != "tool start")
}

fn shown(entry: &Entry, name: &str, style: Style) -> Vec<String> {
    let msg = entry.msg.as_str();
    let line = Line { style, entry };
    match msg {
        "tool start" => vec![line.with(sgr::BLUE, &format!("▸ {}", line.field("tool")))],
        "assistant" => line.assistant(),
        "bash" => vec![line.of_instance(sgr::CYAN, &format!("$ {}", line.field("cmd")))],
        "tool error" => line.tool_error(),
        "container launched" => vec![line.with(sgr::DIM, &format!("Container launched {}", line.field("container")))],
        "container starting" => {
            let title = format!("Container starting: {}", line.field("agentName"));
            let model = format!(" model={}", line.field("modelId"));
            vec![format!("{}{}", line.with(sgr::BOLD_MAGENTA, &title), style.paint(sgr::DIM, &model))]
        }
        "token-usage" => vec![line.with(sgr::DIM, &line.usage())],
        "output" => {
            let text = line.field("text");
            vec![format!("{}  {}{}", line.time(), line.instance(), indented(&text))]
        }
        _ if msg.starts_with("Starting ") => line.run_start(name),
        _ if msg.starts_with("run completed") => {
            let rerun = if msg.contains("rerun requested") { " (rerun requested)" } else { "" };
            vec![format!("{}{}", line.with(sgr::BOLD_GREEN, "Run completed"), style.paint(sgr::YELLOW, rerun))]
        }
        _ if msg.starts_with("container finished") => {
            vec![line.with(sgr::DIM, &format!("Container finished ({})", line.field("elapsed")))]
        }
        _ if entry.level >= Level::Error => {
            let detail = line.detail(&["err", "error", "reason"]);
            vec![format!("{}{}", line.with(sgr::BOLD_RED, &format!("ERROR: {}", printable(msg))), detail)]
        }
        _ if entry.level >= Level::Warn => {
            let detail = line.detail(&["stderr", "error", "err", "text"]);
            vec![format!("{}{}", line.with(sgr::YELLOW, &format!("WARN: {}", printable(msg))), detail)]
        }
        _ => vec![line.with(sgr::DIM, &printable(msg))],
    }
}

/// Text whose further lines cannot pass for entries of their own.
fn indented(text: &str) -> String {
    text.trim_end().replace('\n', &format!("\n{INDENT}"))
}

struct Line<'a> {
    style: Style,
    entry: &'a Entry,
}

impl Line<'_> {
    fn time(&self) -> String {
        self.style.paint(sgr::DIM, &self.entry.time.local_time())
    }

    fn instance(&self) -> String {
        match &self.entry.instance {
            Some(instance) => self.style.paint(sgr::MAGENTA, &format!("[{}] ", single_line(instance))),
            None => String::new(),
        }
    }

    /// `Tokens: 1200 in, 350 out (800 cached), $0.0123`, as far as it is known.
    fn usage(&self) -> String {
        let count = |name: &str| self.entry.fields.get(name).and_then(Value::as_u64).unwrap_or_default();
        let cached = match count("cacheReadTokens") {
            0 => String::new(),
            cached => format!(" ({cached} cached)"),
        };
        let cost = self.entry.fields.get("cost").and_then(Value::as_f64).unwrap_or_default();
        format!("Tokens: {} in, {} out{cached}, ${cost:.4}", count("inputTokens"), count("outputTokens"))
    }

    /// A field as printable text, empty when absent.
    fn field(&self, name: &str) -> String {
        match self.entry.fields.get(name) {
            Some(Value::String(text)) => printable(text).into_owned(),
            Some(other) => printable(&other.to_string()).into_owned(),
            None => String::new(),
        }
    }

    fn with(&self, code: &str, text: &str) -> String {
        format!("{}  {}", self.time(), self.style.paint(code, &indented(text)))
    }

    fn of_instance(&self, code: &str, text: &str) -> String {
        format!("{}  {}{}", self.time(), self.instance(), self.style.paint(code, &indented(text)))
    }

    fn assistant(&self) -> Vec<String> {
        let text = self.field("text");
        let mut lines = text.trim().lines();
        let Some(first) = lines.next() else { return Vec::new() };
        let mut shown = vec![self.of_instance(sgr::BOLD_WHITE, first)];
        shown.extend(lines.map(|line| format!("{INDENT}{}", self.style.paint(sgr::WHITE, line))));
        shown
    }

    fn tool_error(&self) -> Vec<String> {
        let mut shown = vec![self.of_instance(sgr::RED, &format!("✗ {} failed", self.field("tool")))];
        let mut below = |text: &str| {
            shown.extend(text.lines().map(|line| format!("{INDENT}{}", self.style.paint(sgr::DIM, line))));
        };
        if self.entry.fields.contains_key("cmd") {
            below(&format!("$ {}", self.field("cmd")));
        }
        below(cut(self.field("result").trim(), LONGEST_DETAIL));
        shown
    }

    fn run_start(&self, name: &str) -> Vec<String> {
        let container = self.entry.fields.get("container").and_then(Value::as_str);
        let behind = container.map(|container| format!(" ({})", single_line(container))).unwrap_or_default();
        let first = format!(
            "{}{}",
            self.of_instance(sgr::BOLD_MAGENTA, &printable(&self.entry.msg)),
            self.style.paint(sgr::DIM, &behind)
        );
        if !self.entry.msg.contains(" run") {
            return vec![first];
        }
        let parts = [Some(name), self.entry.instance.as_deref(), container];
        let label = format!(" {} ", parts.into_iter().flatten().map(single_line).collect::<Vec<_>>().join("  "));
        let rule = "─".repeat(RULE_WIDTH.saturating_sub(label.chars().count()));
        let header = format!(
            "{}{}{}",
            self.style.paint(sgr::DIM, "──"),
            self.style.paint(sgr::BOLD_MAGENTA, &label),
            self.style.paint(sgr::DIM, &rule)
        );
        vec![String::new(), header, first]
    }

    /// The members that have no place of their own, as JSON behind a blank; empty when there are none.
    fn rest(&self, limit: usize) -> String {
        let rest = self.entry.fields.iter().filter(|(name, _)| !NOT_THE_REST.contains(&name.as_str()));
        let rest: Map<String, Value> = rest.map(|(name, value)| (name.clone(), value.clone())).collect();
        if rest.is_empty() {
            return String::new();
        }
        format!(" {}", cut(&printable_json(&Value::Object(rest).to_string()), limit))
    }

    /// The first of these fields that is there, as a dim text behind a line.
    fn detail(&self, names: &[&str]) -> String {
        let Some(name) = names.iter().find(|name| self.entry.fields.contains_key(**name)) else { return String::new() };
        let text = self.field(name);
        self.style.paint(sgr::DIM, &format!(" {}", cut(&text, LONGEST_DETAIL).replace('\n', " ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(entry: Entry) -> Vec<String> {
        conversation(&entry.of_instance("dev-00000001"), "dev", Style::PLAIN)
            .into_iter()
            .map(|line| line.chars().skip_while(|c| c.is_ascii_digit() || *c == ':').collect())
            .collect()
    }

    #[test]
    fn shows_what_an_agent_does() {
        let entry = |msg: &str| Entry::new(Level::Info, msg);
        assert_eq!(shown(entry("bash").field("cmd", "git status")), ["  [dev-00000001] $ git status"]);
        assert_eq!(
            shown(entry("assistant").field("text", "One.\nTwo.\n")),
            ["  [dev-00000001] One.", "          Two."]
        );
        let error =
            Entry::new(Level::Error, "tool error").field("tool", "bash").field("cmd", "x").field("result", "no\n");
        assert_eq!(shown(error), ["  [dev-00000001] ✗ bash failed", "          $ x", "          no"]);
        assert_eq!(shown(entry("run completed, rerun requested")), ["  Run completed (rerun requested)"]);
        let usage = entry("token-usage").field("inputTokens", 1200).field("outputTokens", 350).field("cost", 0.01234);
        assert_eq!(shown(usage.clone()), ["  Tokens: 1200 in, 350 out, $0.0123"]);
        assert_eq!(shown(usage.field("cacheReadTokens", 8)), ["  Tokens: 1200 in, 350 out (8 cached), $0.0123"]);
        assert_eq!(shown(entry("output").field("text", "hi\x1b[2J")), ["  [dev-00000001] hi\u{FFFD}[2J"]);
        let warning = Entry::new(Level::Warn, "container stderr").field("stderr", "careful");
        assert_eq!(shown(warning), ["  WARN: container stderr careful"]);
        let warning = Entry::new(Level::Warn, "harness stderr").field("text", "careful");
        assert_eq!(shown(warning), ["  WARN: harness stderr careful"]);
    }

    #[test]
    fn the_raw_view_has_everything_in_one_line() {
        let shown = |entry: &Entry, style| {
            let line = raw(entry, style);
            let at = line.find(':').unwrap() - 2;
            format!("{}HH:MM:SS{}", &line[..at], &line[at + 8..])
        };
        let entry = Entry::new(Level::Warn, "two\nlines \u{1b}[2J")
            .of_instance("dev-00000001\n")
            .field("pid", 7)
            .field("stderr", "a\n\u{9b}")
            .field("n", 1);
        let expected = r#"HH:MM:SS WARN  [dev-00000001 ] two\nlines �[2J {"stderr":"a\n\u009b","n":1}"#;
        assert_eq!(shown(&entry, Style::PLAIN), expected);
        let colour = Style { colour: true, live: false };
        assert_eq!(
            shown(&Entry::new(Level::Error, "m").of_instance("i"), colour),
            "\u{1b}[31mHH:MM:SS ERROR\u{1b}[0m \u{1b}[35m[i] \u{1b}[0m\u{1b}[31mm\u{1b}[0m"
        );
        for (level, word) in [(10, "TRACE m"), (20, "DEBUG m"), (30, "INFO  m"), (60, "L60   m"), (7, "L7    m")] {
            let stored = serde_json::json!({"level": level, "time": 0, "msg": "m"});
            let line = shown(&Entry::from_stored(stored.as_object().unwrap().clone()), Style::PLAIN);
            assert_eq!(line, format!("HH:MM:SS {word}"));
        }
    }

    #[test]
    fn names_of_a_foreign_entry_cannot_begin_lines_of_their_own() {
        let entry = Entry::new(Level::Info, "Starting dev container run\nnow").field("container", "c\nd");
        let lines = conversation(&entry.of_instance("i\nj"), "na\nme", Style::PLAIN);
        assert!(lines[1].starts_with("── na me  i j  c d ─"), "{lines:?}");
        assert!(lines[2].ends_with("[i j] Starting dev container run\n          now (c d)"), "{lines:?}");
    }

    #[test]
    fn everything_shows_what_the_conversation_hides() {
        let all = |entry: Entry| everything(&entry, "dev", Style::PLAIN)[0].get(8..).unwrap().to_owned();
        assert_eq!(all(Entry::new(Level::Debug, "event").field("type", "x\n")), r#"  event {"type":"x\n"}"#);
        assert_eq!(all(Entry::new(Level::Debug, "a\nb")), "  a b");
        assert_eq!(all(Entry::new(Level::Info, "bash").field("cmd", "ls")), "  $ ls");
        let long = all(Entry::new(Level::Debug, "event").field("text", "x".repeat(1000)));
        assert_eq!(long.chars().count(), "  event ".len() + LONGEST_DETAIL);
    }

    #[test]
    fn hides_the_rest() {
        assert!(shown(Entry::new(Level::Debug, "event")).is_empty());
        assert!(shown(Entry::new(Level::Info, "assistant").field("text", " ")).is_empty());
        assert_eq!(shown(Entry::new(Level::Debug, "tool start").field("tool", "read")), ["  ▸ read"]);
    }

    #[test]
    fn a_run_begins_with_a_rule() {
        let lines = shown(Entry::new(Level::Info, "Starting dev container run (triggered by manual)"));
        assert_eq!(lines[0], "");
        assert!(lines[1].starts_with("── dev  dev-00000001 ─") && lines[1].chars().count() == 62, "{}", lines[1]);
        assert_eq!(lines[2], "  [dev-00000001] Starting dev container run (triggered by manual)");
    }
}
