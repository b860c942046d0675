//! The built-in credential types (cli-config.md §4.5): one table for the host, which stores and stages credentials, and
//! for `al-agent`, which turns them into environment variables.

/// A kind of credential.
#[derive(Debug)]
pub struct CredentialType {
    pub id: &'static str,
    pub group: Group,
    pub label: &'static str,
    /// What it is for, and what it needs; one or two sentences.
    pub about: &'static str,
    /// In the order in which they are asked for.
    pub fields: &'static [Field],
    /// Where to get one.
    pub help_url: Option<&'static str>,
}

/// Who gets credentials of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Agents that list it.
    Agent,
    /// Runs whose model needs it, never as an environment variable.
    ModelKey,
    /// The gateway or the operator only, never an agent.
    Gateway,
}

/// One value of a credential.
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub label: &'static str,
    pub kind: Kind,
    /// Environment variable that a run gets it as. `github_token` is also `GH_TOKEN`; what `git_ssh` sets is more than
    /// variables (containers.md §10.6).
    pub variable: Option<&'static str>,
}

/// Whether a field is masked on input, and whether it may be left empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Secret,
    OptionalPlain,
    OptionalSecret,
}

impl Field {
    /// Whether an instance is incomplete without this field.
    pub fn is_mandatory(&self) -> bool {
        matches!(self.kind, Kind::Plain | Kind::Secret)
    }
}

/// Type and instance of a ref.
pub fn split_ref(reference: &str) -> (&str, &str) {
    match reference.split_once(':') {
        Some((kind, instance)) => (kind.trim(), instance.trim()),
        None => (reference.trim(), "default"),
    }
}

/// The type with this id.
pub fn find(id: &str) -> Option<&'static CredentialType> {
    TYPES.iter().find(|known| known.id == id)
}

/// All types, in the order in which every listing shows them.
pub static TYPES: [CredentialType; 29] = [
    CredentialType {
        id: "github_token",
        group: Group::Agent,
        label: "GitHub Personal Access Token",
        about: "Lets agents work with GitHub: issues, pull requests, repositories. It needs the repo and workflow scopes.",
        fields: &[Field { name: "token", label: "Token", kind: Kind::Secret, variable: Some("GITHUB_TOKEN") }],
        help_url: Some("https://github.com/settings/tokens"),
    },
    CredentialType {
        id: "anthropic_key",
        group: Group::ModelKey,
        label: "Anthropic API Credential",
        about: "Pays for the models of Anthropic: an API key, or the OAuth token of a subscription.",
        fields: &[Field { name: "token", label: "API Key / OAuth Token", kind: Kind::Secret, variable: None }],
        help_url: Some("https://console.anthropic.com/settings/keys"),
    },
    CredentialType {
        id: "openai_key",
        group: Group::ModelKey,
        label: "OpenAI API Credential",
        about: "Pays for the models of OpenAI.",
        fields: &[Field { name: "token", label: "API Key", kind: Kind::Secret, variable: None }],
        help_url: Some("https://platform.openai.com/api-keys"),
    },
    CredentialType {
        id: "groq_key",
        group: Group::ModelKey,
        label: "Groq API Credential",
        about: "Pays for the models that Groq serves.",
        fields: &[Field { name: "token", label: "API Key", kind: Kind::Secret, variable: None }],
        help_url: Some("https://console.groq.com/keys"),
    },
    CredentialType {
        id: "google_key",
        group: Group::ModelKey,
        label: "Google AI API Credential",
        about: "Pays for the Gemini models of Google.",
        fields: &[Field { name: "token", label: "API Key", kind: Kind::Secret, variable: None }],
        help_url: Some("https://aistudio.google.com/apikey"),
    },
    CredentialType {
        id: "xai_key",
        group: Group::ModelKey,
        label: "xAI API Credential",
        about: "Pays for the Grok models of xAI.",
        fields: &[Field { name: "token", label: "API Key", kind: Kind::Secret, variable: None }],
        help_url: Some("https://console.x.ai"),
    },
    CredentialType {
        id: "mistral_key",
        group: Group::ModelKey,
        label: "Mistral AI API Credential",
        about: "Pays for the models of Mistral AI.",
        fields: &[Field { name: "token", label: "API Key", kind: Kind::Secret, variable: None }],
        help_url: Some("https://console.mistral.ai/api-keys"),
    },
    CredentialType {
        id: "openrouter_key",
        group: Group::ModelKey,
        label: "OpenRouter API Credential",
        about: "Pays for the models that OpenRouter passes on.",
        fields: &[Field { name: "token", label: "API Key", kind: Kind::Secret, variable: None }],
        help_url: Some("https://openrouter.ai/keys"),
    },
    CredentialType {
        id: "custom_key",
        group: Group::ModelKey,
        label: "Custom LLM Provider API Credential",
        about: "The key of a model server of your own; leave it out when the server wants none.",
        fields: &[Field { name: "token", label: "API Key", kind: Kind::Secret, variable: None }],
        help_url: None,
    },
    CredentialType {
        id: "sentry_token",
        group: Group::Agent,
        label: "Sentry Auth Token",
        about: "Lets agents read errors and events of Sentry.",
        fields: &[Field {
            name: "token",
            label: "Auth Token",
            kind: Kind::Secret,
            variable: Some("SENTRY_AUTH_TOKEN"),
        }],
        help_url: Some("https://sentry.io/settings/auth-tokens/"),
    },
    CredentialType {
        id: "linear_token",
        group: Group::Agent,
        label: "Linear Personal API Token",
        about: "Lets agents work with Linear as you.",
        fields: &[Field { name: "token", label: "API Token", kind: Kind::Secret, variable: Some("LINEAR_API_TOKEN") }],
        help_url: Some("https://linear.app/settings/api"),
    },
    CredentialType {
        id: "linear_oauth",
        group: Group::Agent,
        label: "Linear OAuth2 Token",
        about: "Lets agents work with Linear as an OAuth application.",
        fields: &[
            Field { name: "client_id", label: "Client ID", kind: Kind::Plain, variable: Some("LINEAR_CLIENT_ID") },
            Field {
                name: "client_secret",
                label: "Client Secret",
                kind: Kind::Secret,
                variable: Some("LINEAR_CLIENT_SECRET"),
            },
            Field {
                name: "access_token",
                label: "Access Token",
                kind: Kind::Secret,
                variable: Some("LINEAR_ACCESS_TOKEN"),
            },
            Field {
                name: "refresh_token",
                label: "Refresh Token",
                kind: Kind::OptionalSecret,
                variable: Some("LINEAR_REFRESH_TOKEN"),
            },
        ],
        help_url: Some("https://developers.linear.app/docs/oauth/authentication"),
    },
    CredentialType {
        id: "git_ssh",
        group: Group::Agent,
        label: "SSH Key & Git Identity",
        about: "Lets agents clone and push over SSH, and names the author of their commits.",
        fields: &[
            Field { name: "id_rsa", label: "Private Key", kind: Kind::OptionalSecret, variable: None },
            Field { name: "username", label: "Git Author Name", kind: Kind::Plain, variable: None },
            Field { name: "email", label: "Git Author Email", kind: Kind::Plain, variable: None },
        ],
        help_url: None,
    },
    CredentialType {
        id: "github_webhook_secret",
        group: Group::Gateway,
        label: "GitHub Webhook Secret",
        about: "Proves that webhooks come from GitHub. Any random string will do; enter the same string there.",
        fields: &[Field { name: "secret", label: "Webhook Secret", kind: Kind::Secret, variable: None }],
        help_url: Some("https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries"),
    },
    CredentialType {
        id: "sentry_client_secret",
        group: Group::Gateway,
        label: "Sentry Client Secret",
        about: "Proves that webhooks come from Sentry. Any random string will do where you choose it; the same string has to be entered at Sentry.",
        fields: &[Field { name: "secret", label: "Client Secret", kind: Kind::Secret, variable: None }],
        help_url: None,
    },
    CredentialType {
        id: "linear_webhook_secret",
        group: Group::Gateway,
        label: "Linear Webhook Secret",
        about: "Proves that webhooks come from Linear. Any random string will do, as long as the same string is entered at Linear.",
        fields: &[Field { name: "secret", label: "Webhook Secret", kind: Kind::Secret, variable: None }],
        help_url: Some("https://developers.linear.app/docs/webhooks"),
    },
    CredentialType {
        id: "mintlify_webhook_secret",
        group: Group::Gateway,
        label: "Mintlify Webhook Secret",
        about: "Proves that webhooks come from Mintlify. Any random string will do; enter the same string there.",
        fields: &[Field { name: "secret", label: "Webhook Secret", kind: Kind::Secret, variable: None }],
        help_url: Some("https://mintlify.com/docs/api-reference/webhooks"),
    },
    CredentialType {
        id: "netlify_token",
        group: Group::Agent,
        label: "Netlify Personal Access Token",
        about: "Lets agents work with sites and deployments of Netlify.",
        fields: &[Field {
            name: "token",
            label: "Access Token",
            kind: Kind::Secret,
            variable: Some("NETLIFY_AUTH_TOKEN"),
        }],
        help_url: Some("https://app.netlify.com/user/applications#personal-access-tokens"),
    },
    CredentialType {
        id: "x_twitter_api",
        group: Group::Agent,
        label: "X (Twitter) API Credentials",
        about: "Lets agents read and post on X.",
        fields: &[
            Field { name: "api_key", label: "API Key", kind: Kind::Secret, variable: Some("X_API_KEY") },
            Field { name: "api_secret", label: "API Secret", kind: Kind::Secret, variable: Some("X_API_SECRET") },
            Field { name: "bearer_token", label: "Bearer Token", kind: Kind::Secret, variable: Some("X_BEARER_TOKEN") },
            Field {
                name: "access_token",
                label: "Access Token",
                kind: Kind::OptionalSecret,
                variable: Some("X_ACCESS_TOKEN"),
            },
            Field {
                name: "access_token_secret",
                label: "Access Token Secret",
                kind: Kind::OptionalSecret,
                variable: Some("X_ACCESS_TOKEN_SECRET"),
            },
        ],
        help_url: Some("https://developer.x.com/en/portal/dashboard"),
    },
    CredentialType {
        id: "bugsnag_token",
        group: Group::Agent,
        label: "Bugsnag Auth Token",
        about: "Lets agents read errors of Bugsnag.",
        fields: &[Field {
            name: "token",
            label: "Auth Token",
            kind: Kind::Secret,
            variable: Some("BUGSNAG_AUTH_TOKEN"),
        }],
        help_url: Some("https://app.bugsnag.com/settings/my-account/auth-tokens"),
    },
    CredentialType {
        id: "vultr_api_key",
        group: Group::Agent,
        label: "Vultr API Key",
        about: "Lets `al env check` look at a server at Vultr. Agents do not need it at run time.",
        fields: &[Field { name: "api_key", label: "API Key", kind: Kind::Secret, variable: Some("VULTR_API_KEY") }],
        help_url: Some("https://my.vultr.com/settings/#settingsapi"),
    },
    CredentialType {
        id: "hetzner_api_key",
        group: Group::Agent,
        label: "Hetzner API Key",
        about: "Lets `al env check` look at a server at Hetzner. Agents do not need it at run time.",
        fields: &[Field { name: "api_key", label: "API Key", kind: Kind::Secret, variable: Some("HETZNER_API_KEY") }],
        help_url: Some("https://console.hetzner.cloud/projects"),
    },
    CredentialType {
        id: "vps_ssh",
        group: Group::Gateway,
        label: "VPS SSH Key",
        about: "The key with which `al` logs in on your servers.",
        fields: &[
            Field { name: "private_key", label: "Private Key", kind: Kind::Secret, variable: None },
            Field { name: "public_key", label: "Public Key", kind: Kind::Plain, variable: None },
        ],
        help_url: None,
    },
    CredentialType {
        id: "cloudflare_api_token",
        group: Group::Agent,
        label: "Cloudflare API Token",
        about: "Lets `al env check` look at the name of a server behind Cloudflare. Agents do not need it at run time.",
        fields: &[Field {
            name: "api_token",
            label: "API Token",
            kind: Kind::Secret,
            variable: Some("CLOUDFLARE_API_TOKEN"),
        }],
        help_url: Some("https://dash.cloudflare.com/profile/api-tokens"),
    },
    CredentialType {
        id: "reddit_oauth",
        group: Group::Agent,
        label: "Reddit OAuth2 Credentials",
        about: "Lets agents moderate and post on Reddit. The app must be of type \"script\"; the user agent has the form script:<bot>:v1.0 (by u/<name>).",
        fields: &[
            Field { name: "client_id", label: "Client ID", kind: Kind::Plain, variable: Some("REDDIT_CLIENT_ID") },
            Field {
                name: "client_secret",
                label: "Client Secret",
                kind: Kind::Secret,
                variable: Some("REDDIT_CLIENT_SECRET"),
            },
            Field { name: "username", label: "Username", kind: Kind::Plain, variable: Some("REDDIT_USERNAME") },
            Field { name: "password", label: "Password", kind: Kind::Secret, variable: Some("REDDIT_PASSWORD") },
            Field { name: "user_agent", label: "User Agent", kind: Kind::Plain, variable: Some("REDDIT_USER_AGENT") },
        ],
        help_url: Some("https://www.reddit.com/prefs/apps"),
    },
    CredentialType {
        id: "mintlify_token",
        group: Group::Agent,
        label: "Mintlify API Token",
        about: "Lets agents work with documentation at Mintlify.",
        fields: &[Field {
            name: "token",
            label: "API Token",
            kind: Kind::Secret,
            variable: Some("MINTLIFY_API_TOKEN"),
        }],
        help_url: Some("https://mintlify.com/docs/api-reference/authentication"),
    },
    CredentialType {
        id: "aws",
        group: Group::Agent,
        label: "AWS Credentials",
        about: "Lets agents use the aws command and AWS SDKs.",
        fields: &[
            Field {
                name: "access_key_id",
                label: "Access Key ID",
                kind: Kind::Secret,
                variable: Some("AWS_ACCESS_KEY_ID"),
            },
            Field {
                name: "secret_access_key",
                label: "Secret Access Key",
                kind: Kind::Secret,
                variable: Some("AWS_SECRET_ACCESS_KEY"),
            },
            Field {
                name: "default_region",
                label: "Default Region",
                kind: Kind::OptionalPlain,
                variable: Some("AWS_DEFAULT_REGION"),
            },
        ],
        help_url: Some("https://console.aws.amazon.com/iam/home#/security_credentials"),
    },
    CredentialType {
        id: "gateway_api_key",
        group: Group::Gateway,
        label: "Gateway API Key",
        about: "The key of the gateway's dashboard and commands. `al start` makes one by itself.",
        fields: &[Field { name: "key", label: "API Key", kind: Kind::Secret, variable: None }],
        help_url: None,
    },
    CredentialType {
        id: "cloudflare_origin_cert",
        group: Group::Gateway,
        label: "Cloudflare Origin Certificate",
        about: "The certificate of a server behind Cloudflare, one instance per host name. Nothing uses it yet.",
        fields: &[
            Field { name: "certificate", label: "Certificate", kind: Kind::Plain, variable: None },
            Field { name: "private_key", label: "Private Key", kind: Kind::Secret, variable: None },
        ],
        help_url: None,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_only_agent_types_have_variables() {
        for (index, kind) in TYPES.iter().enumerate() {
            assert!(TYPES[..index].iter().all(|other| other.id != kind.id), "{}", kind.id);
            let has_variable = kind.fields.iter().any(|field| field.variable.is_some());
            assert!(!has_variable || kind.group == Group::Agent, "{}", kind.id);
        }
    }
}
