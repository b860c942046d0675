//! What a person sees of a chat, and is asked in it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use shims::session::event::{Compaction, Event, Notice, RetryPhase, Role};
use shims::session::message::{Message, ToolCall};
use shims::session::{Owner, Permit};
use shims::wire::usage::Usage;

use super::show::{self, Kind};
use super::signals::Signals;
use crate::base::clock::seconds;
use crate::base::files::absolute_lexically;
use crate::base::term::{Style, sgr};
use crate::base::text::printable;
use crate::base::{Cancel, MaskedStream, Masker};
use crate::ui::composer::Composer;
use crate::ui::markdown::Markdown;

const QUESTION: &str = "Run it? [y]es, [n]o, [a]lways";
const ANSWERS: [(char, &str); 3] = [('y', "yes"), ('n', "no"), ('a', "always")];

/// Who decides about calls that change something.
pub(super) enum Consent {
    /// They run.
    Given,
    /// The person at the terminal.
    Asked,
    /// Nobody is there to be asked.
    Nobody,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answers {
    /// As they come.
    Streamed,
    /// When they are complete, and what the model says between calls beside them.
    Whole,
}

/// One side of the conversation.
pub(super) struct View {
    pub(super) composer: Option<Composer>,
    pub(super) consent: Consent,
    pub(super) signals: Signals,
    /// Ends the turn that is going on.
    pub(super) turn: Cancel,
    /// Working directory of the tools.
    pub(super) dir: PathBuf,
    pub(super) page: Page,
    pub(super) usage: Usage,
}

impl View {
    /// Whether a call needs a consent: everything that can change something, and reading outside the directory.
    fn is_sensitive(&self, call: &ToolCall, target: Option<&Path>) -> bool {
        call.name != "read" || target.is_none_or(|target| is_outside(target, &self.dir))
    }

    fn ask(&mut self) -> Permit {
        let declined = || Permit::Refused("The user declined this call.".to_owned());
        let Some(composer) = &mut self.composer else { return declined() };
        match composer.ask(QUESTION, &ANSWERS) {
            Ok(Some(0)) => Permit::Granted,
            Ok(Some(1)) => declined(),
            Ok(Some(_)) => {
                self.consent = Consent::Given;
                Permit::Granted
            }
            // Ctrl-C ends the turn; without a terminal there is no turn either.
            Ok(None) | Err(_) => {
                self.signals.interrupt_turn();
                Permit::Refused("Aborted before it started".to_owned())
            }
        }
    }
}

impl Owner for View {
    fn hear(&mut self, event: Event<'_>) {
        self.page.show(&event);
        if self.page.failure.is_some() {
            self.turn.cancel();
        }
        if let Event::TurnEnd { usage, .. } = event {
            self.usage = usage;
        }
    }

    fn permit(&mut self, call: &ToolCall, target: Option<&Path>) -> Permit {
        match self.consent {
            _ if !self.is_sensitive(call, target) => Permit::Granted,
            Consent::Given => Permit::Granted,
            Consent::Asked => self.ask(),
            Consent::Nobody => Permit::Refused(
                "The user declined this call: nobody is there to be asked, and --yes was not given.".to_owned(),
            ),
        }
    }
}

/// Whether a file is not below a directory, links resolved.
fn is_outside(file: &Path, dir: &Path) -> bool {
    // Of a file that is not there at least the directory may be.
    let by_directory = || Some(file.parent()?.canonicalize().ok()?.join(file.file_name()?));
    let file = file.canonicalize().ok().or_else(by_directory).unwrap_or_else(|| absolute_lexically(file, dir));
    !file.starts_with(dir.canonicalize().as_deref().unwrap_or(dir))
}

/// Where a conversation is printed. Everything is masked, and no control character of the model or a tool gets through.
pub(super) struct Page {
    answers: Answers,
    /// For answers.
    out: Box<dyn Write>,
    /// For everything else.
    aside: Box<dyn Write>,
    style: Style,
    masker: Masker,
    stream: MaskedStream,
    /// Where answers are not printed as they are written.
    markdown: Option<Markdown>,
    /// The last thing that was printed does not end with a line break.
    in_line: bool,
    /// Something of the current response was printed.
    has_text: bool,
    /// What the current call prints was printed as it came.
    has_output: bool,
    failure: Option<io::Error>,
}

impl Page {
    pub(super) fn new(
        answers: Answers,
        out: Box<dyn Write>,
        aside: Box<dyn Write>,
        style: Style,
        markdown: Option<Markdown>,
        masker: Masker,
    ) -> Self {
        let stream = MaskedStream::new(masker.clone());
        Self {
            answers,
            out,
            aside,
            style,
            masker,
            stream,
            markdown,
            in_line: false,
            has_text: false,
            has_output: false,
            failure: None,
        }
    }

    /// Why nothing more can be printed, when that is so.
    pub(super) fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// A text without the secrets of this conversation.
    pub(super) fn masked(&self, text: &str) -> String {
        self.masker.mask(text).into_owned()
    }

    /// A message that the person did not type.
    pub(super) fn quote(&mut self, message: &str) {
        self.line(sgr::BOLD, &format!("> {}", message.replace('\n', "\n  ")));
    }

    /// An empty line between what was said and what is said next.
    pub(super) fn gap(&mut self) {
        self.line("", "");
    }

    /// A line beside the conversation.
    pub(super) fn note(&mut self, text: &str) {
        self.line(sgr::DIM, text);
    }

    /// A line about something that went wrong.
    pub(super) fn error(&mut self, text: &str) {
        self.line(sgr::RED, text);
    }

    fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::MessageStart(Role::Assistant) => self.has_text = false,
            Event::TextDelta(text) if self.answers == Answers::Streamed => self.delta(text),
            Event::MessageEnd(Message::Assistant(message)) => match self.answers {
                Answers::Streamed => self.end_text(),
                Answers::Whole => {
                    let is_answer = message.calls().next().is_none();
                    self.whole(&message.text(), is_answer);
                }
            },
            Event::AttemptFailed(_) => self.withdraw(),
            Event::ToolStart(call) => {
                self.has_output = false;
                self.lines(show::call(call, &self.masker));
            }
            Event::ToolOutput { line, .. } => {
                self.has_output = true;
                self.note(&format!("  {line}"));
            }
            Event::ToolEnd { result, .. } if self.has_output && !result.is_error => {}
            Event::ToolEnd { result, .. } => self.lines(show::result(result, &self.masker)),
            Event::RetryStart(retry) => {
                let phase = if retry.phase == RetryPhase::Slow { ", slowly" } else { "" };
                self.note(&format!(
                    "[{}; trying again in {}{phase}: {}/{}]",
                    retry.error.message,
                    seconds(retry.delay),
                    retry.attempt,
                    retry.max_attempts
                ));
            }
            Event::ModelSwitched { from, to, error } => {
                self.note(&format!("[{}: {}; going on with {}:{}]", from.id, error.message, to.provider, to.id));
            }
            Event::CompactionEnd(Compaction { tokens_before, tokens_after, .. }) => {
                self.note(&format!("[conversation shortened from {tokens_before} to {tokens_after} tokens]"));
            }
            Event::Notice(notice) => self.notice(notice),
            _ => {}
        }
    }

    fn notice(&mut self, notice: &Notice<'_>) {
        let text = match notice {
            Notice::ModelAlias { from, to } => format!("[{from} is now {to}]"),
            Notice::UnknownModel { provider, model } => {
                format!("[{provider}:{model} is not known here; its limits and prices are assumed]")
            }
            Notice::ParameterRejected { param } => format!("[the provider refuses {param}; going on without it]"),
            Notice::OutputLimit => "[the answer is cut off: the model reached its output limit again and again]".into(),
            Notice::EmptyResponse => "[the model said nothing]".into(),
            Notice::ModelsExhausted { delay, .. } => {
                format!("[no model can be had; trying again in {}]", seconds(*delay))
            }
            Notice::ModelsGivenUp => "[no model can be had]".into(),
            Notice::SecretInToolOutput { kinds, tool, redacted } => {
                let (what, it) = if kinds.len() == 1 { ("a secret", "it") } else { ("secrets", "them") };
                let sees = if *redacted { "does not see" } else { "sees" };
                format!("[what {tool} gave back contains {what} of {}; the model {sees} {it}]", kinds.join(" and "))
            }
            Notice::Warning(text) => format!("[{text}]"),
            Notice::RepeatedPermissionErrors => return,
        };
        self.note(&text);
    }

    fn delta(&mut self, text: &str) {
        let text = self.stream.push(text);
        self.answer(&text);
    }

    /// The text of a response is complete.
    fn end_text(&mut self) {
        let rest = self.stream.finish();
        self.answer(&rest);
        if let Some(markdown) = &mut self.markdown {
            let rest = markdown.finish();
            self.print(&rest);
        }
        self.end_line();
    }

    /// What was printed of a response does not count.
    fn withdraw(&mut self) {
        self.stream.finish();
        self.markdown.as_mut().map(Markdown::finish);
        if std::mem::take(&mut self.has_text) {
            self.note("[the answer broke off; what came of it does not count]");
        }
    }

    fn whole(&mut self, text: &str, is_answer: bool) {
        let text = self.masker.mask(text.trim_end()).into_owned();
        if text.is_empty() {
            return;
        }
        let text = format!("{}\n", clean(&text));
        let out = if is_answer { &mut self.out } else { &mut self.aside };
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        self.keep(written);
    }

    fn answer(&mut self, text: &str) {
        let text = clean(text);
        if text.is_empty() {
            return;
        }
        self.has_text = true;
        let text = match &mut self.markdown {
            Some(markdown) => markdown.push(&text),
            None => text,
        };
        self.print(&text);
    }

    fn print(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.in_line = !text.ends_with('\n');
        let written = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
        self.keep(written);
    }

    fn end_line(&mut self) {
        if std::mem::take(&mut self.in_line) {
            let written = self.out.write_all(b"\n").and_then(|()| self.out.flush());
            self.keep(written);
        }
    }

    fn lines(&mut self, lines: Vec<show::Line>) {
        for (kind, text) in lines {
            let code = match kind {
                Kind::Title => sgr::CYAN,
                Kind::Removed | Kind::Failure => sgr::RED,
                Kind::Added => sgr::GREEN,
                Kind::Note => sgr::DIM,
            };
            self.line(code, &text);
        }
    }

    fn line(&mut self, code: &str, text: &str) {
        self.end_line();
        let text = clean(&self.masker.mask(text));
        let written = writeln!(self.aside, "{}", self.style.paint(code, &text)).and_then(|()| self.aside.flush());
        self.keep(written);
    }

    fn keep(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            self.failure.get_or_insert(error);
        }
    }
}

/// Foreign text as it may be printed; line breaks of Windows are line breaks.
fn clean(text: &str) -> String {
    printable(&text.replace('\r', "")).into_owned()
}
