//! `al logs`: the last entries of a log, and what comes after them (cli-config.md §6.8, scheduler.md §14).

use std::collections::VecDeque;
use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use crossbeam_channel::{bounded, select};
use serde_json::Value;
use shims::env::Environment;

use crate::base::clock::UnixMs;
use crate::base::error::UsageError;
use crate::base::log::Entry;
use crate::base::log_files::{Day, Filter, LogFiles, Object, Pattern, Position};
use crate::base::term::{Stream, Style, stdout};
use crate::base::text::{printable_json, suggestion};
use crate::base::worker;
use crate::cli::args::Logs;
use crate::cli::ctrl_c;
use crate::cli::gateway_client::trouble;
use crate::cli::site::Site;
use crate::ui::log_view::{conversation, everything, raw};
use source::{At, Back, LARGEST_PAGE, Log, Page, Reading, Subject};

mod source;
mod when;

/// How often is looked for new entries.
const POLL: Duration = Duration::from_secs(1);
/// How long a day's file may have to be looked at before the next day's is.
const MIDNIGHT: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);
/// Entries that are kept while the first one to show is looked for; when there are more, they are read once again.
const KEPT: usize = 5000;
/// Logs that belong to no agent.
pub(crate) const OWN_LOGS: [&str; 2] = ["scheduler", "gateway"];

/// How entries are shown.
struct View {
    form: Form,
    style: Style,
    /// Name of the log.
    name: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Conversation,
    /// The conversation with what it hides otherwise.
    Everything,
    Raw,
    Json,
}

/// Shows a log.
pub(crate) fn run(args: Logs) -> Result<u8> {
    let form = match (args.raw, args.json) {
        (true, true) => {
            bail!(UsageError("error: option '-r, --raw' cannot be used with option '--json'".to_owned()))
        }
        (true, false) => Form::Raw,
        (false, true) => Form::Json,
        (false, false) if args.all => Form::Everything,
        (false, false) => Form::Conversation,
    };
    let site = Site::open(&args.project, args.env.as_deref(), "al logs")?;
    let day = args.date.as_deref().and_then(Day::parse);
    let mut subject = subject(&site, &args.agent, args.instance.as_deref(), day.as_ref())?;
    bound(&mut subject.filter, &args, &site.environment)?;
    subject.filter.pattern = args.grep.as_deref().map(Pattern::parse).transpose().map_err(UsageError)?;
    let view = View { form, style: Style::of(Stream::Stdout), name: subject.name.clone() };
    let log = Log::of(site, subject, if args.follow { Reading::Following } else { Reading::Once })?;
    let first = log.page(At::End, args.lines)?;
    if args.follow {
        return follow_until_interrupted(log, view, first, args.lines, day);
    }
    if let Some(problem) = no_file(&log, &first, day.as_ref())? {
        bail!(problem);
    }
    if show_last(&log, &view, first, args.lines)?.count == 0 && form != Form::Json {
        writeln!(stdout(), "No log entries found for \"{}\".", args.agent)?;
    }
    Ok(0)
}

/// Which log is meant, and which of its entries.
fn subject(site: &Site, agent: &str, instance: Option<&str>, day: Option<&Day>) -> Result<Subject> {
    let (name, of_argument) = match agent_of_instance(site, agent) {
        Some(name) => (name, Some(agent.to_owned())),
        None => (agent, None),
    };
    let whole = |id: &str| if id.starts_with(&format!("{name}-")) { id.to_owned() } else { format!("{name}-{id}") };
    let instance = instance.map(whole);
    if let (Some(one), Some(other)) = (&of_argument, &instance)
        && one != other
    {
        let text = format!("error: option '-i, --instance <N>' names another instance ({other}) than '{one}'");
        bail!(UsageError(text));
    }
    let start = day.and_then(Day::start);
    let filter = Filter {
        instance: of_argument.or(instance),
        // Both bounds are exclusive.
        after: start.map(|start| UnixMs(start.0 - 1)),
        before: start.map(|start| start.plus(Duration::from_secs(86_400))),
        least_level: None,
        pattern: None,
    };
    Ok(Subject { name: name.to_owned(), filter })
}

/// Keeps what is between the instants that were given, and within the day that was.
fn bound(filter: &mut Filter, args: &Logs, environment: &Environment) -> Result<()> {
    let read = |option: &str, text: &Option<String>| {
        text.as_deref().map(|text| when::instant(option, text, UnixMs::now(), environment)).transpose()
    };
    // Both bounds of the filter are exclusive, and `None` is less than any instant.
    let after = read("--after <t>", &args.after)?.map(|after| UnixMs(after.0.saturating_sub(1)));
    filter.after = filter.after.max(after);
    let before = read("--before <t>", &args.before)?;
    filter.before = filter.before.into_iter().chain(before).min();
    Ok(())
}

/// The agent that a word names an instance of (`<agent>-<8 hex>`), unless it is the name of a log itself.
fn agent_of_instance<'w>(site: &Site, word: &'w str) -> Option<&'w str> {
    let is_log = |name: &str| {
        let has_files = || LogFiles::new(&site.log_dir(), name).days().is_ok_and(|days| !days.is_empty());
        OWN_LOGS.contains(&name) || site.has_agent(name) || has_files()
    };
    let (agent, suffix) = word.rsplit_once('-')?;
    let is_suffix = suffix.len() == 8 && suffix.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_suffix && !is_log(word) && is_log(agent)).then_some(agent)
}

/// What is said when there is no file to read.
fn no_file(log: &Log, page: &Page, day: Option<&Day>) -> Result<Option<String>> {
    let is_there = match day {
        _ if !page.is_from_files => page.cursor.is_some() || log.is_known(),
        Some(day) => log.files().days()?.contains(day),
        None => page.cursor.is_some(),
    };
    let which = day.map_or("today", Day::as_str);
    let (name, dir) = (&log.subject.name, log.site.log_dir());
    Ok((!is_there).then(|| {
        let known = log.site.loaded.discovered.iter().map(String::as_str).chain(OWN_LOGS);
        let near = suggestion(name, known).filter(|near| near != name);
        let near = near.map(|near| format!("\n(Did you mean {near}?)")).unwrap_or_default();
        format!("No log file found for agent \"{name}\" ({which}) in {}{near}", dir.display())
    }))
}

impl View {
    /// The lines of an entry; none when it is hidden.
    fn lines(&self, entry: &Object) -> Vec<String> {
        match self.form {
            Form::Conversation => conversation(&Entry::from_stored(entry.clone()), &self.name, self.style),
            Form::Everything => everything(&Entry::from_stored(entry.clone()), &self.name, self.style),
            Form::Raw => vec![raw(&Entry::from_stored(entry.clone()), self.style)],
            Form::Json => vec![printable_json(&Value::Object(entry.clone()).to_string()).into_owned()],
        }
    }

    /// Shows entries; gives the number of those that are not hidden.
    fn show<'e>(&self, entries: impl IntoIterator<Item = &'e Object>) -> Result<usize> {
        let mut shown = 0;
        let mut text = String::new();
        for entry in entries {
            let lines = self.lines(entry);
            shown += usize::from(!lines.is_empty());
            lines.iter().for_each(|line| text += &format!("{line}\n"));
        }
        stdout().write_all(text.as_bytes())?;
        Ok(shown)
    }

    fn is_shown(&self, entry: &Object) -> bool {
        self.form != Form::Conversation || !self.lines(entry).is_empty()
    }
}

/// What was shown.
struct Shown {
    /// Entries that are not hidden.
    count: usize,
    /// Where to go on; `None` when there is no log yet.
    cursor: Option<String>,
}

/// Shows the last `wanted` entries that are not hidden, beginning with a page from the end.
fn show_last(log: &Log, view: &View, first: Page, wanted: usize) -> Result<Shown> {
    let end = first.cursor.clone();
    let mut page = first;
    let mut kept: VecDeque<Object> = VecDeque::new();
    let mut found = 0;
    loop {
        for entry in std::mem::take(&mut page.entries).into_iter().rev().filter(|entry| view.is_shown(entry)) {
            // Without a gap up to the last one, or none at all.
            if found < wanted && kept.len() == found {
                kept.push_front(entry);
            }
            found += 1;
        }
        if kept.len() > KEPT {
            // Too many to keep: they are read again.
            kept.clear();
        }
        if found >= wanted {
            break;
        }
        let lacking = (wanted - found).max(LARGEST_PAGE / 10);
        let earlier = match &page.back {
            Back::Cursor(cursor) => log.page(At::Before(cursor), lacking)?,
            Back::Beginning => break,
            // As much as can be had from a gateway that does not page backwards.
            Back::Unsaid => {
                kept.clear();
                found = 0;
                Page { back: Back::Beginning, ..log.page(At::End, LARGEST_PAGE)? }
            }
        };
        if earlier.back == page.back && earlier.entries.is_empty() {
            break;
        }
        page = earlier;
    }
    if kept.len() == found.min(wanted) {
        return Ok(Shown { count: view.show(&kept)?, cursor: end });
    }
    let from = match page.back {
        Back::Cursor(cursor) => cursor,
        Back::Beginning | Back::Unsaid => beginning(),
    };
    show_from(log, view, from, end, found.saturating_sub(wanted))
}

/// A cursor before everything.
fn beginning() -> String {
    Day::parse("0000-01-01").map(|day| Position::start_of(day).to_string()).unwrap_or_default()
}

/// Shows everything from one cursor on, up to another one at least, but for the first `skipped` entries that are not
/// hidden.
fn show_from(log: &Log, view: &View, from: String, end: Option<String>, mut skipped: usize) -> Result<Shown> {
    let mut cursor = from;
    let mut count = 0;
    let mut moved = Instant::now();
    loop {
        let page = log.page(At::After(&cursor), LARGEST_PAGE)?;
        let mut entries = page.entries.iter().filter(|entry| view.is_shown(entry));
        while skipped > 0 && entries.next().is_some() {
            skipped -= 1;
        }
        count += view.show(entries)?;
        if let Some(next) = page.cursor.filter(|next| *next != cursor) {
            moved = Instant::now();
            cursor = next;
        }
        let is_at_end = end.as_deref().is_none_or(|end| Position::parse(&cursor) >= Position::parse(end));
        if !page.has_more && (is_at_end || moved.elapsed() > MIDNIGHT) {
            return Ok(Shown { count, cursor: Some(cursor) });
        }
        if !page.has_more {
            // The end is in a later day's file, and this one was written to just now.
            thread::sleep(PAUSE);
        }
    }
}

/// Goes on until Ctrl-C, which is a success.
fn follow_until_interrupted(log: Log, view: View, first: Page, wanted: usize, day: Option<Day>) -> Result<u8> {
    let typed = ctrl_c::listen()?;
    let (sender, ended) = bounded(1);
    // On a thread of its own: a request that is under way cannot be interrupted, the process can.
    worker::spawn("follow", move || {
        let result = worker::guarded(|| follow(&log, &view, first, wanted, day.as_ref())).flatten();
        let _ = sender.send(result);
    })?;
    select! {
        recv(typed) -> _ => Ok(0),
        recv(ended) -> result => result?.map(|()| 0),
    }
}

/// Shows the last entries and then new ones; ends only with an error of the output or of the files.
fn follow(log: &Log, view: &View, first: Page, wanted: usize, day: Option<&Day>) -> Result<()> {
    match no_file(log, &first, day)? {
        Some(problem) => writeln!(std::io::stderr(), "{problem}; waiting for it")?,
        None if first.cursor.is_none() => {
            writeln!(std::io::stderr(), "No log of \"{}\" yet; waiting for it", log.subject.name)?;
        }
        None => {}
    }
    let mut cursor = show_last(log, view, first, wanted)?.cursor;
    loop {
        let page = match &cursor {
            Some(cursor) => log.page(At::After(cursor), LARGEST_PAGE),
            None => log.page(At::End, wanted),
        };
        let has_more = match page {
            Ok(page) if cursor.is_none() => {
                cursor = show_last(log, view, page, wanted)?.cursor;
                false
            }
            Ok(page) => {
                view.show(&page.entries)?;
                cursor = page.cursor.or(cursor);
                page.has_more
            }
            // What is wrong with a gateway may pass; what is wrong with files or the output does not.
            Err(error) if trouble(&error).is_some() => false,
            Err(error) => return Err(error),
        };
        if !has_more {
            // Neither files nor the gateway say when there is something new.
            thread::sleep(POLL);
        }
    }
}
