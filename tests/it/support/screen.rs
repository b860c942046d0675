//! What a person sees, and what a CI system obeys, of a program's output.

/// The lines that are left on a terminal in the end. Knows what a simple terminal knows; anything else fails.
#[track_caller]
pub(crate) fn on_screen(output: &str) -> Vec<String> {
    let mut lines = vec![Vec::new()];
    let mut column = 0;
    let mut chars = output.chars();
    while let Some(c) = chars.next() {
        let line = lines.last_mut().expect("there is a line");
        match c {
            '\r' => column = 0,
            '\n' => {
                lines.push(Vec::new());
                column = 0;
            }
            '\x1b' => {
                let sequence: String = (&mut chars).take_while_inclusive(|c| !c.is_ascii_alphabetic());
                match sequence.as_str() {
                    "[2K" => line.clear(),
                    colour if colour.ends_with('m') => {}
                    other => panic!("escape sequence {other:?}"),
                }
            }
            c => {
                assert!(!c.is_control() || c == '\t', "control character {c:?}");
                line.resize(line.len().max(column + 1), ' ');
                line[column] = c;
                column += 1;
            }
        }
    }
    lines.into_iter().map(|line| line.into_iter().collect::<String>().trim_end().to_owned()).collect()
}

trait TakeWhileInclusive {
    fn take_while_inclusive(self, goes_on: impl Fn(&char) -> bool) -> String;
}

impl<I: Iterator<Item = char>> TakeWhileInclusive for I {
    /// The characters up to and including the first one at which it does not go on.
    fn take_while_inclusive(self, goes_on: impl Fn(&char) -> bool) -> String {
        let mut taken = String::new();
        for c in self {
            taken.push(c);
            if !goes_on(&c) {
                break;
            }
        }
        taken
    }
}

/// What a runner of GitHub Actions makes of a job's output.
#[derive(Debug, Default)]
pub(crate) struct Runner {
    /// Workflow commands that it obeys, but for those that stop and resume obeying.
    pub(crate) commands: Vec<String>,
    /// Lines that it would have looked into for commands.
    pub(crate) obeyed: Vec<String>,
    token: Option<String>,
}

impl Runner {
    pub(crate) fn read(outputs: &[&str]) -> Self {
        let mut runner = Self::default();
        outputs.iter().flat_map(|output| output.lines()).for_each(|line| runner.line(line));
        assert_eq!(runner.token, None, "commands are obeyed again in the end");
        runner
    }

    fn line(&mut self, line: &str) {
        if let Some(token) = &self.token {
            if line.trim() == format!("::{token}::") {
                self.token = None;
            }
            return;
        }
        if let Some(token) = line.strip_prefix("::stop-commands::") {
            assert!(token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line}");
            self.token = Some(token.to_owned());
            return;
        }
        self.obeyed.push(line.to_owned());
        // The older form is found anywhere in a line.
        if line.trim_start().starts_with("::") || line.contains("##[") {
            self.commands.push(line.to_owned());
        }
    }
}
