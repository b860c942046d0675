//! The simple commands of a shell script, as far as examples in documentation need it: which words does each have?

/// Words of every simple command, in order. Quotes are taken away, variables stay as they are written.
pub(crate) fn commands(script: &str) -> Vec<Vec<String>> {
    let mut scan = Scan {
        rest: script.chars().peekable(),
        commands: Vec::new(),
        words: Vec::new(),
        word: None,
        redirected: false,
    };
    scan.run();
    scan.commands
}

struct Scan<'s> {
    rest: std::iter::Peekable<std::str::Chars<'s>>,
    commands: Vec<Vec<String>>,
    words: Vec<String>,
    word: Option<String>,
    /// The next word is a file of a redirection.
    redirected: bool,
}

impl Scan<'_> {
    fn run(&mut self) {
        while let Some(c) = self.rest.next() {
            match c {
                '\\' => match self.rest.next() {
                    Some('\n') | None => {}
                    Some(other) => self.push(other),
                },
                '\'' => self.quoted('\''),
                '"' => self.quoted('"'),
                '#' if self.word.is_none() => while self.rest.next_if(|c| *c != '\n').is_some() {},
                '$' if self.rest.peek() == Some(&'(') => {
                    self.rest.next();
                    self.push('$');
                    self.substitution();
                }
                '>' | '<' => {
                    // A descriptor in front is no word.
                    if self.word.as_ref().is_some_and(|word| word.chars().all(|c| c.is_ascii_digit())) {
                        self.word = None;
                    }
                    self.end_word();
                    while self.rest.next_if(|c| "<>&".contains(*c)).is_some() {}
                    self.redirected = true;
                }
                '\n' | ';' | '|' | '&' | '(' | ')' => self.end_command(),
                ' ' | '\t' => self.end_word(),
                other => self.push(other),
            }
        }
        self.end_command();
    }

    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn quoted(&mut self, quote: char) {
        self.word.get_or_insert_default();
        while let Some(c) = self.rest.next() {
            match c {
                c if c == quote => return,
                '\\' if quote == '"' => self.rest.next().into_iter().for_each(|c| self.push(c)),
                '$' if quote == '"' && self.rest.peek() == Some(&'(') => {
                    self.rest.next();
                    self.push('$');
                    self.substitution();
                }
                other => self.push(other),
            }
        }
    }

    /// Commands inside `$( … )` count as well.
    fn substitution(&mut self) {
        let (mut depth, mut inner) = (1, String::new());
        for c in self.rest.by_ref() {
            depth += i32::from(c == '(') - i32::from(c == ')');
            if depth == 0 {
                break;
            }
            inner.push(c);
        }
        self.commands.extend(commands(&inner));
    }

    fn end_word(&mut self) {
        let word = self.word.take();
        if word.is_some() && std::mem::take(&mut self.redirected) {
            return;
        }
        self.words.extend(word);
    }

    fn end_command(&mut self) {
        self.end_word();
        let words = std::mem::take(&mut self.words);
        // What stands before a command without being one.
        let is_prefix = |word: &String| {
            ["do", "then", "else", "{", "}", "!", "if", "while", "until"].contains(&word.as_str())
                || is_assignment(word)
        };
        let words: Vec<String> = words.into_iter().skip_while(is_prefix).collect();
        if !words.is_empty() {
            self.commands.push(words);
        }
    }
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=')
        .is_some_and(|(name, _)| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

#[test]
fn commands_are_found_wherever_they_stand() {
    let script = "# al nothing\nA=1 al run \"a b\" --json 2>err | tail -n 1 && al stat >out # al no\nid=$(echo x | al-call y) \\\n  al-wait\n\
                  if al-status 'it''s'; then rlock \"k $(al-exit 3)\"; fi\n";
    let found: Vec<String> = commands(script).into_iter().map(|words| words.join("·")).collect();
    assert_eq!(
        found,
        [
            "al·run·a b·--json",
            "tail·-n·1",
            "al·stat",
            "echo·x",
            "al-call·y",
            "al-wait",
            "al-status·its",
            "al-exit·3",
            "rlock·k $",
            "fi"
        ]
    );
}
