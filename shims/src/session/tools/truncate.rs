//! The limits of a result (agent-session.md §7.1): at most 2000 lines and 51200 bytes, whole lines.

use crate::secret::Masker;

/// Most lines of a result.
pub(super) const LINES: usize = 2000;
/// Most bytes of a result.
pub(super) const BYTES: usize = 51_200;

/// Why text was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    Lines,
    Bytes,
}

/// Collects lines from the start of a text until a limit is reached.
#[derive(Default)]
pub(super) struct Head {
    text: String,
    lines: usize,
    cut: Option<Cut>,
}

impl Head {
    /// Takes the next line, given without its newline. The first line that does not fit ends the text for good.
    pub(super) fn push(&mut self, line: &str) {
        if self.cut.is_some() {
            return;
        }
        let separator = usize::from(self.lines > 0);
        if self.lines == LINES {
            self.cut = Some(Cut::Lines);
        } else if self.text.len() + separator + line.len() > BYTES {
            self.cut = Some(Cut::Bytes);
        } else {
            self.text.push_str(&"\n"[..separator]);
            self.text.push_str(line);
            self.lines += 1;
        }
    }

    /// Which limit was reached.
    pub(super) fn cut(&self) -> Option<Cut> {
        self.cut
    }

    /// Lines taken.
    pub(super) fn lines(&self) -> usize {
        self.lines
    }

    /// The lines taken, joined by newlines.
    pub(super) fn into_text(self) -> String {
        self.text
    }
}

/// The end of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tail<'a> {
    /// All of it.
    Whole,
    /// Its last lines.
    Lines { text: &'a str, lines: usize, cut: Cut },
    /// The last line alone is too long: that line, without its newline.
    LongLine(&'a str),
}

/// The last lines of a text that fit the limits. A newline belongs to the line it ends.
pub(super) fn tail(text: &str) -> Tail<'_> {
    let mut start = text.len();
    let mut lines = 0;
    while start > 0 {
        let before = &text.as_bytes()[..start - 1];
        let line = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let cut = match () {
            () if lines == LINES => Cut::Lines,
            () if text.len() - line > BYTES => Cut::Bytes,
            () => {
                start = line;
                lines += 1;
                continue;
            }
        };
        return if lines == 0 {
            Tail::LongLine(text[line..].strip_suffix('\n').unwrap_or(&text[line..]))
        } else {
            Tail::Lines { text: &text[start..], lines, cut }
        };
    }
    Tail::Whole
}

/// The end of a line, without a part of a secret at its beginning.
pub(super) fn last_bytes<'a>(line: &'a str, secrets: &Masker) -> &'a str {
    let mut start = line.len().saturating_sub(BYTES);
    while !line.is_char_boundary(start) {
        start += 1;
    }
    &line[secrets.cut_behind(line, start)..]
}

/// A size in notices: `512B`, `50.0KB`, `1.5MB`.
pub(super) fn size(bytes: u64) -> String {
    const KIB: f64 = 1024.0;
    match bytes {
        0..1024 => format!("{bytes}B"),
        1024..1_048_576 => format!("{:.1}KB", bytes as f64 / KIB),
        _ => format!("{:.1}MB", bytes as f64 / KIB / KIB),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_unit() {
        assert_eq!(size(0), "0B");
        assert_eq!(size(1023), "1023B");
        assert_eq!(size(1024), "1.0KB");
        assert_eq!(size(51_200), "50.0KB");
        assert_eq!(size(1_572_864), "1.5MB");
    }

    #[test]
    fn the_head_stops_at_the_first_line_that_does_not_fit() {
        let mut head = Head::default();
        for line in ["x".repeat(BYTES - 3), "y".into(), "too long".into(), "z".into()] {
            head.push(&line);
        }
        assert_eq!((head.lines(), head.cut()), (2, Some(Cut::Bytes)));
        assert!(head.into_text().ends_with("x\ny"));

        let mut head = Head::default();
        (0..=LINES).for_each(|_| head.push(""));
        assert_eq!((head.lines(), head.cut()), (LINES, Some(Cut::Lines)));
    }

    #[test]
    fn the_tail_keeps_whole_lines() {
        assert_eq!(tail(""), Tail::Whole);
        assert_eq!(tail("a\nb\n"), Tail::Whole);
        assert_eq!(tail(&"x\n".repeat(LINES)), Tail::Whole);
        let lines = "x\n".repeat(LINES + 1);
        assert_eq!(tail(&lines), Tail::Lines { text: &lines[2..], lines: LINES, cut: Cut::Lines });
        let wide = format!("{}\nlast\n", "x".repeat(BYTES));
        assert_eq!(tail(&wide), Tail::Lines { text: "last\n", lines: 1, cut: Cut::Bytes });
    }

    #[test]
    fn a_last_line_that_is_too_long_is_cut_between_characters() {
        let line = format!("{}\n", "ä".repeat(BYTES));
        let Tail::LongLine(whole) = tail(&line) else { panic!("expected a long line") };
        assert_eq!(last_bytes(whole, &Masker::default()).len(), BYTES);
        let odd = format!("{}b", "ä".repeat(BYTES));
        let Tail::LongLine(whole) = tail(&odd) else { panic!("expected a long line") };
        assert_eq!(last_bytes(whole, &Masker::default()).len(), BYTES - 1);
    }
}

#[cfg(test)]
mod props {
    use proptest::prelude::*;

    use super::*;

    /// Texts around both limits: many short lines, or lines of about the size limit.
    fn texts() -> impl Strategy<Value = String> {
        let short = prop::collection::vec("[a-zä🦙]{0,3}", 0..2500);
        let long = prop::collection::vec((0..BYTES + 10, "[xé]"), 0..4);
        let long = long.prop_map(|lines| lines.into_iter().map(|(width, fill)| fill.repeat(width)).collect::<Vec<_>>());
        (prop_oneof![short, long], any::<bool>())
            .prop_map(|(lines, newline)| lines.join("\n") + if newline { "\n" } else { "" })
    }

    proptest! {
        #[test]
        fn a_head_is_a_prefix_of_whole_lines_within_the_limits(text in texts()) {
            let mut head = Head::default();
            text.split('\n').for_each(|line| head.push(line));
            let (lines, cut) = (head.lines(), head.cut());
            let kept = head.into_text();
            prop_assert!(kept.len() <= BYTES && lines <= LINES);
            prop_assert_eq!(kept.clone(), text.split('\n').take(lines).collect::<Vec<_>>().join("\n"));
            prop_assert_eq!(cut.is_none(), kept == text);
        }

        #[test]
        fn a_tail_is_a_suffix_within_the_limits(text in texts()) {
            let fits = text.len() <= BYTES && text.lines().count() <= LINES;
            match tail(&text) {
                Tail::Whole => prop_assert!(fits),
                Tail::Lines { text: end, lines, .. } => {
                    prop_assert!(!fits && end.len() <= BYTES && lines <= LINES && lines > 0);
                    prop_assert!(text.ends_with(end) && text[..text.len() - end.len()].ends_with('\n'));
                    prop_assert_eq!(end.split_inclusive('\n').count(), lines);
                }
                Tail::LongLine(line) => {
                    let end = last_bytes(line, &Masker::default());
                    prop_assert!(!fits && end.len() <= BYTES && end.len() > BYTES - 4);
                    prop_assert!(!end.contains('\n'));
                    prop_assert!(text.strip_suffix('\n').unwrap_or(&text).ends_with(end));
                }
            }
        }
    }
}
