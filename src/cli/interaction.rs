//! Whether there is a person who can be asked (cli-config.md §2.5).

use std::io::IsTerminal as _;

use shims::env::Environment;

/// Whether a command may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interaction {
    /// A person sits at a terminal.
    Person,
    /// Nobody answers: everything that is missing is an error at once.
    Nobody,
}

impl Interaction {
    /// The decision for this process. `headless` is `-H`.
    pub(crate) fn of(headless: bool, environment: &Environment) -> Self {
        Self::decide(headless, std::io::stdin().is_terminal(), environment)
    }

    fn decide(headless: bool, is_terminal: bool, environment: &Environment) -> Self {
        let refused = environment.get("AL_NO_INPUT") == Some("1");
        let in_ci = environment.get_non_empty("CI").is_some_and(|value| !["0", "false"].contains(&value));
        if headless || refused || in_ci || !is_terminal { Self::Nobody } else { Self::Person }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_without_a_terminal_or_when_told_so() {
        let decide = |headless, terminal, variables: &[(&str, &str)]| {
            Interaction::decide(headless, terminal, &variables.iter().copied().collect())
        };
        assert_eq!(decide(false, true, &[]), Interaction::Person);
        assert_eq!(decide(false, true, &[("CI", "false"), ("AL_NO_INPUT", "0")]), Interaction::Person);
        assert_eq!(decide(true, true, &[]), Interaction::Nobody);
        assert_eq!(decide(false, false, &[]), Interaction::Nobody);
        assert_eq!(decide(false, true, &[("CI", "true")]), Interaction::Nobody);
        assert_eq!(decide(false, true, &[("AL_NO_INPUT", "1")]), Interaction::Nobody);
    }
}
