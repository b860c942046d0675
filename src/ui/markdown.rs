//! Markdown on a terminal with colours, as it comes: headings, bold text, code, lists. Everything else stays as it is written,
//! and so does what only looks like the beginning of something. Pure.

use crate::base::term::{Style, sgr};

/// Most bytes that are held back until it is known what they are, and that bold text or code in a line may have.
const MOST_HELD: usize = 500;
/// What list items begin with.
const BULLET: &str = "• ";
/// Shortest mark around a block of code.
const FENCE: usize = 3;
/// A line with so many spaces before it may be code.
const CODE_INDENT: usize = 4;

/// Turns pieces of a text into what is written to the terminal.
pub struct Markdown {
    style: Style,
    /// The end of what came, of which it is not known yet what it is.
    held: String,
    /// The line that goes on; `None` at the beginning of one.
    line: Option<Kind>,
    /// The mark that ends the block of code.
    fence: Option<String>,
    /// What came before in the line.
    before: Option<char>,
}

/// What a line is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Heading,
    Code,
    /// Before or behind code.
    Fence,
}

impl Markdown {
    /// At the beginning of a text.
    pub fn new(style: Style) -> Self {
        Self { style, held: String::new(), line: None, fence: None, before: None }
    }

    /// Gives what can be written now that this came.
    pub fn push(&mut self, text: &str) -> String {
        self.held.push_str(text);
        self.take(false)
    }

    /// Gives the rest. What comes next is another text.
    pub fn finish(&mut self) -> String {
        let rest = self.take(true);
        *self = Self::new(self.style);
        rest
    }

    fn take(&mut self, is_end: bool) -> String {
        let held = std::mem::take(&mut self.held);
        let (mut rest, mut out) = (held.as_str(), String::new());
        while let Some((line, behind)) = rest.split_once('\n') {
            self.write(line, true, &mut out);
            out.push('\n');
            (self.line, self.before) = (None, None);
            rest = behind;
        }
        let mut written = self.write(rest, is_end, &mut out);
        if rest.len() - written > MOST_HELD {
            written += self.write(&rest[written..], true, &mut out);
        }
        rest[written..].clone_into(&mut self.held);
        out
    }

    /// Writes of a line, or what is left of it, what is known; gives how many bytes that is. Of a whole one everything is.
    fn write(&mut self, line: &str, is_whole: bool, out: &mut String) -> usize {
        let begun = match self.line {
            Some(_) => 0,
            None => match self.begin(line, is_whole, out) {
                Some((kind, begun)) => {
                    self.line = Some(kind);
                    begun
                }
                None => return 0,
            },
        };
        let rest = &line[begun..];
        let written = match self.line {
            Some(Kind::Code) => self.paint(sgr::CYAN, rest, out),
            Some(Kind::Fence) => self.paint(sgr::DIM, rest, out),
            Some(Kind::Heading) => self.inline(sgr::BOLD, rest, is_whole, out),
            _ => self.inline("", rest, is_whole, out),
        };
        self.before = line[..begun + written].chars().next_back().or(self.before);
        begun + written
    }

    /// What a line is, and how many bytes at its beginning say so and are done; `None` when that is not known yet.
    fn begin(&mut self, line: &str, is_whole: bool, out: &mut String) -> Option<(Kind, usize)> {
        let text = line.trim_start_matches(' ');
        let indent = line.len() - text.len();
        let Some(first) = text.chars().next() else { return is_whole.then_some((Kind::Text, 0)) };
        let run = text.len() - text.trim_start_matches(first).len();
        if let Some(fence) = &self.fence {
            let is_fence = fence.starts_with(first) && text.trim_end().len() == run;
            return match is_fence {
                true if !is_whole => None,
                true if run >= fence.len() => {
                    self.fence = None;
                    Some((Kind::Fence, 0))
                }
                _ => Some((Kind::Code, 0)),
            };
        }
        let (mark, behind) = text.split_at(run);
        let may_go_on = behind.is_empty() && !is_whole;
        match first {
            '`' | '~' | '#' | '-' | '*' | '+' if may_go_on => None,
            '`' | '~' if run >= FENCE && !(first == '`' && behind.contains('`')) => {
                if !is_whole {
                    return None;
                }
                self.fence = Some(mark.to_owned());
                Some((Kind::Fence, 0))
            }
            '#' if run <= 6 && indent < CODE_INDENT && behind.starts_with(' ') => {
                Some((Kind::Heading, indent + run + 1))
            }
            '-' | '*' | '+' if run == 1 && behind.starts_with(' ') => {
                out.push_str(&line[..indent]);
                out.push_str(BULLET);
                Some((Kind::Text, indent + 2))
            }
            _ => Some((Kind::Text, 0)),
        }
    }

    /// Writes text in which there may be code and bold text.
    fn inline(&self, code: &str, text: &str, is_whole: bool, out: &mut String) -> usize {
        let mut done = 0;
        while let Some(at) = text[done..].find(['`', '*']).map(|at| done + at) {
            self.paint(code, &text[done..at], out);
            let is_code = text[at..].starts_with('`');
            let length = text[at..].len() - text[at..].trim_start_matches(if is_code { '`' } else { '*' }).len();
            let inner = at + length;
            if inner == text.len() && !is_whole {
                return at;
            }
            let before = text[..at].chars().next_back().or(self.before);
            let opens = is_code || length == 2 && opens(before, text[inner..].chars().next());
            done = match if opens { close(text, at, inner, is_whole) } else { Close::Nowhere } {
                Close::At(end) if is_code => inner + self.paint(sgr::CYAN, &text[inner..end], out) + length,
                Close::At(end) => inner + self.inline(sgr::BOLD, &text[inner..end], true, out) + length,
                Close::Nowhere => at + self.paint(code, &text[at..inner], out),
                Close::Unknown => return at,
            };
        }
        done + self.paint(code, &text[done..], out)
    }

    /// Writes text in a colour or weight; gives how many bytes it has.
    fn paint(&self, code: &str, text: &str, out: &mut String) -> usize {
        match code {
            "" => out.push_str(text),
            code => out.push_str(&self.style.paint(code, text)),
        }
        text.len()
    }
}

/// Where what was opened ends.
enum Close {
    At(usize),
    Nowhere,
    /// More of the line has to come.
    Unknown,
}

/// Whether two asterisks between these characters begin bold text: not in `a**b` or `2 ** 3`.
fn opens(before: Option<char>, behind: Option<char>) -> bool {
    !before.is_some_and(char::is_alphanumeric) && behind.is_some_and(|c| !c.is_whitespace())
}

/// Finds the mark at `open..inner` again.
fn close(text: &str, open: usize, inner: usize, is_whole: bool) -> Close {
    let mark = &text[open..inner];
    let same = &mark[..1];
    let mut from = inner;
    while let Some(at) = text[from..].find(same).map(|at| from + at) {
        if at - inner > MOST_HELD {
            return Close::Nowhere;
        }
        let behind = text.len() - text[at..].trim_start_matches(same).len();
        if behind == text.len() && !is_whole {
            return Close::Unknown;
        }
        let [left, right] = [text[..at].chars().next_back(), text[behind..].chars().next()];
        // Bold text ends as it begins, seen from behind.
        if behind - at == mark.len() && (same == "`" || opens(right, left)) {
            return Close::At(at);
        }
        from = behind;
    }
    if is_whole { Close::Nowhere } else { Close::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With `<b:`, `<c:` and `<d:` for bold, cyan and dim, and `>` for the end of that.
    fn shown(pieces: &[&str]) -> String {
        let mut markdown = Markdown::new(Style { colour: true, live: true });
        let mut out: String = pieces.iter().map(|piece| markdown.push(piece)).collect();
        out += &markdown.finish();
        [(sgr::BOLD, "<b:"), (sgr::CYAN, "<c:"), (sgr::DIM, "<d:"), ("0", ">")]
            .iter()
            .fold(out, |out, (code, shown)| out.replace(&format!("\x1b[{code}m"), shown))
    }

    /// The same whole and character by character, but for where colours are interrupted.
    #[track_caller]
    fn case(text: &str, expected: &str) {
        assert_eq!(shown(&[text]), expected);
        let pieces: Vec<String> = text.chars().map(String::from).collect();
        let bit_by_bit = shown(&pieces.iter().map(String::as_str).collect::<Vec<_>>());
        let joined = |text: &str| text.replace("><b:", "").replace("><c:", "").replace("><d:", "");
        assert_eq!(joined(&bit_by_bit), joined(expected), "bit by bit");
    }

    #[test]
    fn headings_and_lists() {
        case(
            "# One\n### Two `x`\n#hash\n    # code\n####### seven",
            "<b:One>\n<b:Two ><c:x>\n#hash\n    # code\n####### seven",
        );
        case("- a\n  * b\n1. c\n-d\n---\n-", "• a\n  • b\n1. c\n-d\n---\n-");
    }

    #[test]
    fn bold_text_and_code() {
        case("a **b c** d `e` f", "a <b:b c> d <c:e> f");
        case("**a `b` c**, ``d`e``", "<b:a ><c:b><b: c>, <c:d`e>");
        case("`**a**` (**b**)", "<c:**a**> (<b:b>)");
    }

    #[test]
    fn what_only_looks_so_stays_as_it_is() {
        for text in
            ["2**3 and 4**5", "2 ** 3 ** 4", "**a", "a `b", "***a***", "*a*", "**a\nb**", "`a\nb`", "__init__", "**"]
        {
            case(text, text);
        }
    }

    #[test]
    fn blocks_of_code() {
        case("```sh\n# a **b**\n``\n```\n**c**", "<d:```sh>\n<c:# a **b**>\n<c:``>\n<d:```>\n<b:c>");
        case("  ~~~~\n```\n~~~~~ \nd", "<d:  ~~~~>\n<c:```>\n<d:~~~~~ >\nd");
        case("```a``` b\n\nc", "<c:a> b\n\nc");
    }

    #[test]
    fn text_is_not_held_back_longer_than_needed() {
        let mut markdown = Markdown::new(Style { colour: true, live: true });
        assert_eq!(markdown.push("Hello, wor"), "Hello, wor");
        assert_eq!(markdown.push("ld **a"), "ld ");
        assert_eq!(markdown.push("**"), "");
        assert_eq!(markdown.push(" b"), "\x1b[1ma\x1b[0m b");
        let long = format!("`{}", "x".repeat(MOST_HELD));
        assert_eq!(markdown.push(&long), long);
    }
}
