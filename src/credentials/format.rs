//! What the values of a credential look like, as far as that can be seen without asking anybody (cli-config.md §4.5).

use super::private_key;

/// The beginning of the keys of some model providers.
const PREFIXES: [(&str, &str); 4] =
    [("openai_key", "sk-"), ("groq_key", "gsk_"), ("xai_key", "xai-"), ("openrouter_key", "sk-or-")];
/// The beginning of Anthropic's OAuth tokens.
const OAUTH_PREFIX: &str = "sk-ant-oat";
/// Fewest characters of a secret of Linear.
const LINEAR_SECRET: usize = 8;

/// How a key of Anthropic is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnthropicKey {
    ApiKey,
    OauthToken,
}

impl AnthropicKey {
    /// Which of them a token is.
    pub fn of(token: &str) -> Self {
        if token.starts_with(OAUTH_PREFIX) { Self::OauthToken } else { Self::ApiKey }
    }

    /// The word in `model.authType`.
    pub fn auth_type(self) -> &'static str {
        match self {
            Self::ApiKey => "api_key",
            Self::OauthToken => "oauth_token",
        }
    }
}

/// Checks that a token is one of Anthropic's OAuth tokens.
///
/// # Errors
/// A sentence with the expected beginning.
pub fn check_oauth(token: &str) -> Result<(), String> {
    match AnthropicKey::of(token) {
        AnthropicKey::OauthToken => Ok(()),
        AnthropicKey::ApiKey => Err(format!("An OAuth token begins with {OAUTH_PREFIX}.")),
    }
}

/// Checks a value of a field that is not empty.
///
/// # Errors
/// A sentence that does not contain the value.
pub fn check(kind: &str, field: &str, value: &str) -> Result<(), String> {
    if let Some((_, prefix)) = PREFIXES.iter().find(|(id, _)| *id == kind)
        && !value.starts_with(prefix)
    {
        return Err(format!("Keys of this provider begin with {prefix}."));
    }
    let fine = match (kind, field) {
        ("linear_webhook_secret", "secret") if value.chars().count() < LINEAR_SECRET => {
            Err(format!("It has to have at least {LINEAR_SECRET} characters."))
        }
        ("aws", "access_key_id") if !is_access_key(value) => {
            Err("An access key id has 16 to 128 capital letters and digits.".to_owned())
        }
        ("aws", "default_region") if !is_region(value) => Err("A region looks like eu-central-1.".to_owned()),
        ("git_ssh", "id_rsa") | ("vps_ssh", "private_key") => private_key::check(value),
        _ => Ok(()),
    };
    // Control characters in the middle would end up in headers and variables.
    if !has_lines(field) && value.contains(char::is_control) {
        return Err("It has to be one line without control characters.".to_owned());
    }
    fine
}

/// Whether the values of a field have several lines: keys and certificates.
pub fn has_lines(field: &str) -> bool {
    matches!(field, "id_rsa" | "private_key" | "certificate" | "known_hosts")
}

fn is_access_key(text: &str) -> bool {
    (16..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

/// Two letters, one or more words, a number, with hyphens between.
fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [first, words @ .., last] = parts.as_slice() else { return false };
    let is_word = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    first.len() == 2 && is_word(first) && !words.is_empty() && words.iter().all(is_word) && is_number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_that_are_known_are_checked() {
        for (kind, field, good, bad) in [
            ("openai_key", "token", "sk-x", "x"),
            ("openrouter_key", "token", "sk-or-x", "sk-x"),
            ("linear_webhook_secret", "secret", "12345678", "1234567"),
            ("aws", "access_key_id", "AKIA234567890ABC", "akia234567890abc"),
            ("aws", "default_region", "us-gov-west-1", "europe"),
            ("github_token", "token", "anything", "two\nlines"),
        ] {
            assert_eq!(check(kind, field, good), Ok(()), "{kind}");
            let problem = check(kind, field, bad).unwrap_err();
            assert!(!problem.contains(bad) || bad == "x", "{problem}");
        }
        assert!(check("groq_key", "token", "x").unwrap_err().contains("gsk_"));
    }

    #[test]
    fn the_two_kinds_of_anthropic_keys_are_told_apart_by_their_beginning() {
        assert_eq!(AnthropicKey::of("sk-ant-oat01-x").auth_type(), "oauth_token");
        assert_eq!(AnthropicKey::of("x sk-ant-oat").auth_type(), "api_key");
        assert!(check_oauth("sk-ant-api").unwrap_err().contains("sk-ant-oat"));
    }
}
