//! `al chat`: a conversation with the model on this machine (cli-config.md §6.6, agent-session.md §18).

use std::io::{self, IsTerminal as _, PipeReader, Write as _};
use std::time::SystemTime;

use anyhow::{Result, anyhow, bail};
use shims::env::Environment;
use shims::session::prompt::{Audience, SystemPrompt};
use shims::session::{End, Input, ModelChoice, Session, Surroundings, ToolGroups};
use shims::wire::usage::Usage;

use crate::base::error::{ConfigError, UsageError};
use crate::base::prompt::Interrupted;
use crate::base::term::{Stream, Style, stdout};
use crate::base::text::printable;
use crate::base::{Cancel, Masker, crash};
use crate::cli::args::Chat;
use crate::cli::interaction::Interaction;
use crate::cli::site::Site;
use crate::ui::composer::{Composer, Typed};
use crate::ui::is_hung_up;
use crate::ui::markdown::Markdown;
use crate::ui::summary::usage_text;

mod context;
mod descendants;
mod gateway;
mod models;
mod show;
mod signals;
mod subject;
mod tools;
mod view;

use signals::Signals;
use subject::Subject;
use tools::Tools;
use view::{Answers, Consent, Page, View};

/// Exit status when the terminal is closed, with or without SIGHUP.
const HUNG_UP: u8 = 129;
const SHORTCUTS: &str = "Shortcuts: Enter = send, Shift+Enter / Alt+Enter = new line, Ctrl+C = cancel, Ctrl+D = exit";

/// Holds a conversation.
pub(crate) fn run(args: Chat) -> Result<u8> {
    let interaction = Interaction::of(false, &Environment::of_process());
    check(&args, interaction)?;
    let site = Site::open(&args.project, args.env.as_deref(), "al chat")?;
    let subject = Subject::of(&site, args.agent.as_deref())?;
    let groups = ToolGroups::default();
    let (signals, wake) = Signals::listen(groups.clone())?;
    let choices = models::choose(&subject, &site, &signals.token(), &mut warn)?;
    let tools = Tools::prepare(&subject, &site, groups, &mut warn)?;
    signals.remove_at_the_end(tools.directories().map(ToOwned::to_owned));
    if subject.agent.is_some() {
        gateway::problem(&site).iter().for_each(|problem| warn(problem));
    }
    if let Some(status) = signals.ended() {
        return Ok(status);
    }
    let masker = masker(&tools, &choices);
    let mut view = view(&args, interaction, wake, &signals, &subject, masker.clone())?;
    let input = input(&site, &subject, &tools, choices, masker)?;
    let session = Session::start(input, &mut view).map_err(ConfigError)?;
    let mut conversation = Conversation { session, view, signals: signals.clone() };
    let ended = match args.message {
        Some(message) => conversation.once(message),
        None => conversation.hold(&subject, &site),
    };
    signals.await_death();
    // Whatever could not be read or printed, this is why. Of a hangup not everybody is told by a signal, or at once.
    ended.or_else(|error| signals.ended().or_else(|| is_hung_up().then_some(HUNG_UP)).ok_or(error))
}

/// What cannot be without anything else being looked at.
fn check(args: &Chat, interaction: Interaction) -> Result<()> {
    match &args.message {
        Some(message) if message.trim().is_empty() => {
            bail!(UsageError("error: option '-m, --message <text>' argument is empty".to_owned()))
        }
        None if interaction == Interaction::Nobody => bail!(UsageError(
            "error: a chat needs a person at a terminal; without one, send a single message with --message <text>"
                .to_owned()
        )),
        _ => Ok(()),
    }
}

fn warn(problem: &str) {
    let _ = writeln!(io::stderr(), "Warning: {}", printable(problem));
}

/// What must not be printed: the credentials of the tools and the keys of the models.
fn masker(tools: &Tools, choices: &[ModelChoice]) -> Masker {
    let keys = choices.iter().filter_map(|choice| Some((choice.config.provider.as_str(), choice.key.as_ref()?)));
    Masker::labelled(tools.secrets.iter().map(|(kind, value)| (kind.as_str(), value)).chain(keys))
}

fn view(
    args: &Chat,
    interaction: Interaction,
    wake: PipeReader,
    signals: &Signals,
    subject: &Subject<'_>,
    masker: Masker,
) -> Result<View> {
    let consent = match interaction {
        _ if args.yes => Consent::Given,
        Interaction::Person => Consent::Asked,
        Interaction::Nobody => Consent::Nobody,
    };
    let asks = args.message.is_none() || matches!(consent, Consent::Asked);
    let composer = if asks { Some(Composer::new(wake)?) } else { None };
    let on_terminal = io::stdout().is_terminal();
    let aside: (Box<dyn io::Write>, Stream) = match on_terminal {
        true => (Box::new(stdout()), Stream::Stdout),
        false => (Box::new(io::stderr()), Stream::Stderr),
    };
    let answers = if args.message.is_some() && !on_terminal { Answers::Whole } else { Answers::Streamed };
    let style = Style::of(aside.1);
    let markdown = (on_terminal && style.colour).then(|| Markdown::new(style));
    Ok(View {
        composer,
        consent,
        signals: signals.clone(),
        turn: Cancel::new(),
        dir: subject.dir.clone(),
        page: Page::new(answers, Box::new(stdout()), aside.0, style, markdown, masker),
        usage: Usage::default(),
    })
}

fn input(
    site: &Site,
    subject: &Subject<'_>,
    tools: &Tools,
    models: Vec<ModelChoice>,
    secrets: Masker,
) -> Result<Input> {
    let (path, context) = subject.context(site, &tools.loaded)?;
    let system = SystemPrompt {
        agent: subject.name(),
        instructions_path: &path.to_string_lossy(),
        instructions: &context,
        tool_dir: &subject.dir.to_string_lossy(),
        now: SystemTime::now(),
        audience: Audience::Person,
    };
    let mut environment = tools.environment.clone();
    if models.iter().any(|model| model.config.provider == "mock") && environment.get_os("AL_STATIC_DIR").is_none() {
        // Scripts for the mock are where they are before they are part of an image.
        environment.set("AL_STATIC_DIR", &subject.dir);
    }
    Ok(Input {
        system: system.render(),
        models,
        tool_dir: subject.dir.clone(),
        tmp_dir: tools.scratch.path().to_owned(),
        environment,
        exit_file: None,
        deadline: None,
        time_limit: None,
        limits: subject.limits.clone(),
        secrets,
        tool_groups: tools.groups.clone(),
        surroundings: Surroundings::Terminal,
    })
}

/// A conversation that goes on.
struct Conversation {
    session: Session,
    view: View,
    signals: Signals,
}

impl Conversation {
    /// Says one thing and prints the answer.
    fn once(&mut self, message: String) -> Result<u8> {
        match self.say(message)? {
            End::Failed { error, provider, model } => {
                bail!(anyhow!("{}", self.view.page.masked(&format!("{provider}:{model}: {}", error.message))))
            }
            End::Cancelled => self.signals.ended().map_or_else(|| Err(Interrupted.into()), Ok),
            _ => Ok(0),
        }
    }

    /// Goes on until the person ends it.
    fn hold(&mut self, subject: &Subject<'_>, site: &Site) -> Result<u8> {
        self.signals.begin_conversation();
        self.introduce(subject);
        let mut opening = subject.agent.is_none().then(|| context::first_message(&site.loaded));
        loop {
            let message = match opening.take() {
                Some(message) => {
                    self.view.page.quote(&message);
                    message
                }
                None => match self.read() {
                    Ok(Typed::Message(message)) => message,
                    Ok(Typed::Ended) => return Ok(0),
                    Ok(Typed::Interrupted) if self.signals.is_second_interrupt() => return Err(Interrupted.into()),
                    Ok(Typed::Interrupted) => continue,
                    Err(error) => return Err(error),
                },
            };
            let end = self.say(message)?;
            if let Some(status) = self.signals.ended() {
                return Ok(status);
            }
            match end {
                End::Failed { error, provider, model } => {
                    self.view.page.error(&format!("Error: {provider}:{model}: {}", error.message));
                }
                End::Cancelled => self.view.page.note("[cancelled]"),
                _ => {}
            }
            if self.view.usage.total_tokens > 0 {
                self.view.page.note(&format!("[{}]", usage_text(self.view.usage)));
            }
            self.view.page.gap();
        }
    }

    fn introduce(&mut self, subject: &Subject<'_>) {
        let model = &subject.models[0];
        let about = subject.agent.map_or("the project".to_owned(), |agent| format!("agent \"{}\"", agent.name));
        let page = &mut self.view.page;
        page.note(&format!("Chat about {about} with {}:{}.", model.provider, model.model));
        page.note(&format!("Commands run on this machine, in {}, outside a container.", subject.dir.display()));
        page.note(SHORTCUTS);
    }

    fn read(&mut self) -> Result<Typed> {
        match &mut self.view.composer {
            Some(composer) => composer.read(),
            None => Ok(Typed::Ended),
        }
    }

    /// Says something and waits until the model is done.
    fn say(&mut self, message: String) -> Result<End> {
        let turn = self.signals.begin_turn();
        self.view.turn = turn.clone();
        crash::point("chat-turn");
        let end = self.session.prompt(message, turn, &mut self.view);
        self.signals.end_turn();
        descendants::reap();
        match self.view.page.take_failure() {
            Some(error) => Err(error.into()),
            None => Ok(end),
        }
    }
}
