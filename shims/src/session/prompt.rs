//! The system prompt (agent-session.md §5.1).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the system prompt is made from.
pub struct SystemPrompt<'a> {
    pub agent: &'a str,
    /// Path under which the instructions are introduced.
    pub instructions_path: &'a str,
    /// The agent's instructions; may be empty.
    pub instructions: &'a str,
    /// Working directory of the tools.
    pub tool_dir: &'a str,
    pub now: SystemTime,
    pub audience: Audience,
}

/// Who the session is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Nobody is there during a run.
    Unattended,
    /// A person reads and answers.
    Person,
    /// Nobody is there, and another program holds the session with tools of its own.
    UnattendedElsewhere,
}

const UNATTENDED: &str = "\
You are an autonomous agent that can program. Action Llama has started you in a container of your own to do one job: \
you read files, run shell commands, and edit and write files until it is done. Nobody is watching and nobody can answer \
a question before you have finished, so decide yourself and go on.";

const UNATTENDED_ELSEWHERE: &str = "\
You are an autonomous agent that can program. Action Llama has started you in a container of your own to do one job: \
work with your tools until it is done. Nobody is watching and nobody can answer a question before you have finished, so \
decide yourself and go on. When you are done, report as plain text what you have done.";

const PERSON: &str = "\
You are an agent that can program, part of Action Llama. You help the person you are talking to: you read files, run \
shell commands, and edit and write files for them.";

const TOOLS_AND_RULES: &str = "\
Your tools:
- read: show the contents of a file
- bash: run a shell command
- edit: replace one exact piece of text in a file
- write: create a file or replace it as a whole

Rules:
- List directories and search for files and text with bash.
- Look at a file with read before you edit it; do not use cat or sed for that.
- Make precise changes with edit. The old text must match the file exactly.
- Use write only for new files and for complete rewrites.
- Report what you have done as plain text in your answer, not through cat or bash.
- Be concise.
- Give the paths of files plainly.";

impl SystemPrompt<'_> {
    /// The text. Date and directory come last, so that everything before them is the same in every run.
    pub fn render(&self) -> String {
        let role = match self.audience {
            Audience::Unattended => format!("{UNATTENDED}\n\n{TOOLS_AND_RULES}"),
            Audience::Person => format!("{PERSON}\n\n{TOOLS_AND_RULES}"),
            Audience::UnattendedElsewhere => UNATTENDED_ELSEWHERE.to_owned(),
        };
        let fallback;
        let instructions = if self.instructions.trim().is_empty() {
            fallback = format!("# {} Agent\n\nCustom agent.", self.agent);
            fallback.as_str()
        } else {
            self.instructions.trim_end()
        };
        format!(
            "{role}\n\n# Project Context\n\nWhat follows are the instructions of this \
             project:\n\n## {path}\n\n{instructions}\n\nCurrent date and time: {now}\nCurrent working directory: {dir}",
            path = self.instructions_path,
            now = date_and_time(self.now),
            dir = self.tool_dir,
        )
    }
}

/// A moment as `Thursday, March 19, 2026 at 02:15:30 PM UTC`.
fn date_and_time(at: SystemTime) -> String {
    const WEEKDAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let hour = second_of_day / 3600;
    format!(
        "{weekday}, {month} {day}, {year} at {hour:02}:{minute:02}:{second:02} {half} UTC",
        weekday = WEEKDAYS[(days % 7) as usize],
        month = MONTHS[month],
        hour = (hour + 11) % 12 + 1,
        minute = second_of_day / 60 % 60,
        second = second_of_day % 60,
        half = if hour < 12 { "AM" } else { "PM" },
    )
}

/// Year, month from 0, and day from 1, of a number of days since the epoch.
fn date(days: u64) -> (u64, usize, u64) {
    // Years from March put the leap day at the end; 146 097 days are 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year + u64::from(month >= 10);
    (year, ((month + 2) % 12) as usize, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        #[track_caller]
        fn case(seconds: u64, expected: &str) {
            assert_eq!(date_and_time(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
        case(1_773_929_730, "Thursday, March 19, 2026 at 02:15:30 PM UTC");
        case(0, "Thursday, January 1, 1970 at 12:00:00 AM UTC");
        case(951_782_400 + 12 * 3600, "Tuesday, February 29, 2000 at 12:00:00 PM UTC");
        case(1_798_761_599, "Thursday, December 31, 2026 at 11:59:59 PM UTC");
        case(4_107_542_400, "Monday, March 1, 2100 at 12:00:00 AM UTC");
    }

    fn prompt(instructions: &str, audience: Audience) -> String {
        let prompt = SystemPrompt {
            agent: "triage",
            instructions_path: "/app/static/ACTIONS.md",
            instructions,
            tool_dir: "/app/static",
            now: UNIX_EPOCH,
            audience,
        };
        prompt.render()
    }

    #[test]
    fn has_the_instructions_and_ends_with_date_and_directory() {
        let text = prompt("# Do it\n\nNow.\n", Audience::Unattended);
        let end = "# Project Context\n\nWhat follows are the instructions of this project:\n\n## \
                   /app/static/ACTIONS.md\n\n# Do it\n\nNow.\n\nCurrent date and time: Thursday, January 1, 1970 at \
                   12:00:00 AM UTC\nCurrent working directory: /app/static";
        assert!(text.ends_with(end), "{text}");
        for line in ["- read: ", "- bash: ", "- edit: ", "- write: "] {
            assert!(text.contains(&format!("\n{line}")));
        }
        assert!(text.contains("nobody can answer"));
    }

    #[test]
    fn an_agent_without_instructions_still_has_a_name() {
        let text = prompt(" \n", Audience::Person);
        assert!(text.contains("## /app/static/ACTIONS.md\n\n# triage Agent\n\nCustom agent.\n\nCurrent date"));
        assert!(!text.contains("nobody"));
    }
}
