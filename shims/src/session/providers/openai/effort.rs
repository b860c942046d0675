//! How much OpenAI's models are asked to think (agent-session.md §11.3).

use crate::session::registry::Thinking;

/// The word for each level, `off` first.
type Efforts = [&'static str; 6];

const HIGH_ONLY: Efforts = ["high"; 6];
const PRO: Efforts = ["medium", "medium", "medium", "medium", "high", "xhigh"];
const NEW_CODEX: Efforts = ["low", "low", "low", "medium", "high", "xhigh"];
const COMMON: Efforts = ["low", "low", "low", "medium", "high", "high"];
const FIRST_5: Efforts = ["minimal", "minimal", "low", "medium", "high", "high"];
const SINCE_5_1: Efforts = ["none", "low", "low", "medium", "high", "high"];
const SINCE_5_2: Efforts = ["none", "low", "low", "medium", "high", "xhigh"];

/// What a reasoning model is told; `None` when it takes no such parameter.
pub(in crate::session::providers) fn effort(id: &str, level: Thinking) -> Option<&'static str> {
    let at = Thinking::ALL.iter().position(|one| *one == level).expect("the list has every level");
    efforts(id).map(|efforts| efforts[at])
}

fn efforts(id: &str) -> Option<Efforts> {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| id.starts_with(prefix));
    let version = version(id);
    let row = match version {
        _ if starts(&["gpt-5-pro"]) => HIGH_ONLY,
        Some((5, Some(_), rest)) if rest.starts_with("-pro") => PRO,
        _ if starts(&["gpt-5.1-codex-max", "gpt-5.2-codex", "gpt-5.3-codex"]) => NEW_CODEX,
        _ if id.contains("codex") => COMMON,
        _ if id.ends_with("-chat-latest") || id.contains("deep-research") => return None,
        _ if id == "gpt-5" || starts(&["gpt-5-mini", "gpt-5-nano", "gpt-5-20"]) => FIRST_5,
        Some((5, Some(1), _)) => SINCE_5_1,
        Some((5, Some(2..), _) | (6.., ..)) => SINCE_5_2,
        _ => COMMON,
    };
    Some(row)
}

/// The parts of `gpt-<major>.<minor><rest>`.
fn version(id: &str) -> Option<(u32, Option<u32>, &str)> {
    let (major, rest) = number(id.strip_prefix("gpt-")?)?;
    match rest.strip_prefix('.').and_then(number) {
        Some((minor, rest)) => Some((major, Some(minor), rest)),
        None => Some((major, None, rest)),
    }
}

fn number(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_row_that_fits_decides() {
        #[track_caller]
        fn case(ids: &str, row: &str) {
            for id in ids.split(' ') {
                let seen = Thinking::ALL.map(|level| effort(id, level).unwrap_or("–")).join(" ");
                assert_eq!(seen, row, "{id}");
            }
        }
        case("gpt-5-pro gpt-5-pro-2025-10-06", "high high high high high high");
        case("gpt-5.2-pro gpt-5.5-pro gpt-5.10-pro-x", "medium medium medium medium high xhigh");
        case("gpt-5.1-codex-max gpt-5.2-codex gpt-5.3-codex-spark", "low low low medium high xhigh");
        case("gpt-5-codex gpt-5.1-codex gpt-5.1-codex-mini codex-mini-latest", "low low low medium high high");
        case("gpt-5.1-chat-latest o3-deep-research gpt-6-chat-latest", "– – – – – –");
        case("gpt-5 gpt-5-mini gpt-5-nano-x gpt-5-2025-08-07", "minimal minimal low medium high high");
        case("gpt-5.1 gpt-5.1-2025-11-13", "none low low medium high high");
        case("gpt-5.2 gpt-5.4-mini gpt-5.10 gpt-6-sol gpt-6 gpt-6.1-sol gpt-10", "none low low medium high xhigh");
        case("o1 o3 o3-pro o4-mini o1-preview gpt-5-other local-model gpt-x", "low low low medium high high");
    }
}
