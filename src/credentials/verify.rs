//! Asks providers whether they accept a credential, before it is stored (cli-config.md §4.7).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use shims::env::Environment;

use super::format::{AnthropicKey, check_oauth};
use super::store::Fields;
use crate::base::Masker;
use crate::base::text::{cut, single_line};
use crate::base::web::{Address, Answer, Limits, Method, Request, Web};

const LIMITS: Limits =
    Limits { connect: Duration::from_secs(15), whole: Duration::from_secs(15), answer_bytes: 4 << 20 };
/// Most characters of an answer in a message.
const LONGEST_QUOTE: usize = 200;

/// What a provider says of a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is accepted; lines worth showing.
    Valid(Vec<String>),
    /// The provider said no; why.
    Invalid(String),
    /// The provider could not be asked, or did not say; why.
    Unknown(String),
}

/// Whether there is somebody to ask about credentials of this type.
pub fn is_asked(kind: &str) -> bool {
    matches!(
        kind,
        "github_token"
            | "anthropic_key"
            | "sentry_token"
            | "linear_token"
            | "linear_oauth"
            | "netlify_token"
            | "x_twitter_api"
            | "bugsnag_token"
            | "vultr_api_key"
            | "hetzner_api_key"
            | "cloudflare_api_token"
            | "reddit_oauth"
    )
}

/// Asks about a credential, 15 seconds at most for each question. Types that nobody can be asked about are valid.
pub fn verify(kind: &str, fields: &Fields, environment: &Environment) -> Verdict {
    let asker = Asker { fields, environment };
    let verdict = match kind {
        "github_token" => github(&asker),
        "anthropic_key" => anthropic(&asker),
        "sentry_token" => sentry(&asker),
        "linear_token" => linear(&asker, "Linear", asker.field("token")),
        "linear_oauth" => linear(&asker, "Linear OAuth", format!("Bearer {}", asker.field("access_token"))),
        "netlify_token" => netlify(&asker),
        "x_twitter_api" => x(&asker),
        "bugsnag_token" => bugsnag(&asker),
        "vultr_api_key" => plain(&asker, "Vultr", "https://api.vultr.com", "/v2/account"),
        "hetzner_api_key" => hetzner(&asker),
        "cloudflare_api_token" => cloudflare(&asker),
        "reddit_oauth" => reddit(&asker),
        _ => Ok(Vec::new()),
    };
    match verdict {
        Ok(lines) => Verdict::Valid(lines.iter().map(|line| asker.clean(line)).collect()),
        Err(No::Invalid(why)) => Verdict::Invalid(asker.clean(&why)),
        Err(No::Unknown(why)) => Verdict::Unknown(asker.clean(&why)),
    }
}

/// Why a credential is not known to be valid.
enum No {
    Invalid(String),
    Unknown(String),
}

/// Lines worth showing.
type Checked = Result<Vec<String>, No>;

struct Asker<'a> {
    fields: &'a Fields,
    environment: &'a Environment,
}

impl Asker<'_> {
    fn field(&self, name: &str) -> String {
        self.fields.get(name).map(|value| value.expose().trim().to_owned()).unwrap_or_default()
    }

    fn bearer(&self) -> String {
        let token =
            ["token", "api_key", "api_token"].iter().map(|name| self.field(name)).find(|value| !value.is_empty());
        format!("Bearer {}", token.unwrap_or_default())
    }

    /// Asks, whatever the answer.
    fn ask(&self, who: &str, origin: &str, request: Request<'_>) -> Result<Answer, No> {
        let agent = format!("action-llama/{}", shims::VERSION);
        let mut headers = request.headers.to_vec();
        if !headers.iter().any(|(name, _)| *name == "user-agent") {
            headers.push(("user-agent", &agent));
        }
        let address = Address::parse(origin).expect("our own table has addresses");
        let unknown = |why: String| No::Unknown(format!("{who} could not be asked: {why}"));
        let web = Web::to(&address, self.environment).map_err(unknown)?;
        web.send(Request { headers: &headers, ..request }, LIMITS).map_err(|failure| unknown(failure.reason))
    }

    /// Asks for what is only given to who has a valid credential.
    fn get(&self, who: &str, origin: &str, path: &str, headers: &[(&'static str, &str)]) -> Result<Answer, No> {
        accepted(who, self.ask(who, origin, Request { path, headers, ..Request::default() })?)
    }

    /// Text of a provider without the values of the credential.
    fn clean(&self, text: &str) -> String {
        let mut text = Masker::new(self.fields.values()).mask(text).into_owned();
        for value in self.fields.values().map(|value| value.expose().trim()).filter(|value| value.len() > 3) {
            text = text.replace(value, "***");
        }
        single_line(&text)
    }
}

/// The answer, when it is a success.
fn accepted(who: &str, answer: Answer) -> Result<Answer, No> {
    match answer.status {
        200..300 => Ok(answer),
        429 => Err(unsaid(who, &answer)),
        400..500 => Err(refused(who, &answer)),
        _ => Err(unsaid(who, &answer)),
    }
}

fn refused(who: &str, answer: &Answer) -> No {
    No::Invalid(format!("{who} refused it (HTTP {}): {}", answer.status, quote(answer)))
}

fn unsaid(who: &str, answer: &Answer) -> No {
    No::Unknown(format!("{who} did not say (HTTP {}): {}", answer.status, quote(answer)))
}

/// What there is to say when somebody answers but not as expected.
fn strange(who: &str, answer: &Answer) -> No {
    No::Unknown(format!("{who} gave an unexpected answer (HTTP {}): {}", answer.status, quote(answer)))
}

fn quote(answer: &Answer) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    match text.trim() {
        "" => "(no text)".to_owned(),
        text => cut(text, LONGEST_QUOTE).to_owned(),
    }
}

fn json(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

fn github(asker: &Asker<'_>) -> Checked {
    let bearer = asker.bearer();
    let headers = [("authorization", bearer.as_str()), ("accept", "application/vnd.github+json")];
    let origin = "https://api.github.com";
    let user = asker.get("GitHub", origin, "/user", &headers)?;
    let login = json(&user)["login"].as_str().map(str::to_owned).ok_or_else(|| strange("GitHub", &user))?;
    let repos = asker.get("GitHub", origin, "/user/repos?sort=updated&per_page=100", &headers)?;
    let count = json(&repos).as_array().map_or(0, Vec::len);
    let more = if count == 100 { " or more" } else { "" };
    let mut lines = vec![format!("GitHub user {login}, {count}{more} repositories")];
    if let Some(scopes) = user.header("x-oauth-scopes") {
        let has = |scope: &str| scopes.split(',').any(|found| found.trim() == scope);
        let lacking: Vec<&str> = ["repo", "workflow"].into_iter().filter(|scope| !has(scope)).collect();
        if !lacking.is_empty() {
            lines.push(format!("Warning: the token lacks the scope {}.", lacking.join(" and the scope ")));
        }
    }
    Ok(lines)
}

fn anthropic(asker: &Asker<'_>) -> Checked {
    let token = asker.field("token");
    if AnthropicKey::of(&token) == AnthropicKey::OauthToken {
        return check_oauth(&token).map(|()| Vec::new()).map_err(No::Invalid);
    }
    let headers = [("x-api-key", token.as_str()), ("anthropic-version", "2023-06-01")];
    let request = Request { path: "/v1/models?limit=1", headers: &headers, ..Request::default() };
    let answer = asker.ask("Anthropic", "https://api.anthropic.com", request)?;
    match answer.status {
        200..300 => Ok(Vec::new()),
        401 | 403 => Err(refused("Anthropic", &answer)),
        _ => Err(unsaid("Anthropic", &answer)),
    }
}

fn sentry(asker: &Asker<'_>) -> Checked {
    let bearer = asker.bearer();
    let answer =
        asker.get("Sentry", "https://sentry.io", "/api/0/organizations/", &[("authorization", bearer.as_str())])?;
    let found = json(&answer);
    let found = found.as_array().ok_or_else(|| strange("Sentry", &answer))?;
    if found.is_empty() {
        return Err(No::Invalid(format!("Sentry accepts it (HTTP {}), but it sees no organization", answer.status)));
    }
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    Ok(found.iter().map(|one| format!("Sentry organization {} ({})", text(&one["slug"]), text(&one["name"]))).collect())
}

fn linear(asker: &Asker<'_>, who: &str, authorization: String) -> Checked {
    let headers = [("authorization", authorization.as_str())];
    let query = r#"{"query":"query{viewer{id name}}"}"#;
    let request =
        Request { method: Method::Post, path: "/graphql", headers: &headers, json: Some(query), ..Request::default() };
    let answer = asker.ask(who, "https://api.linear.app", request)?;
    let body = json(&answer);
    match answer.status {
        _ if !body["errors"].is_null() && answer.status < 500 && answer.status != 429 => Err(refused(who, &answer)),
        200..300 => {
            Ok(body["data"]["viewer"]["name"].as_str().map(|name| format!("{who} user {name}")).into_iter().collect())
        }
        401 => Err(refused(who, &answer)),
        _ => Err(unsaid(who, &answer)),
    }
}

fn netlify(asker: &Asker<'_>) -> Checked {
    let bearer = asker.bearer();
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let user = json(&asker.get("Netlify", "https://api.netlify.com", "/api/v1/user", &headers)?);
    let text = |name: &str| user[name].as_str().unwrap_or_default().to_owned();
    Ok(vec![format!("Netlify user {} ({})", text("full_name"), text("email"))])
}

fn x(asker: &Asker<'_>) -> Checked {
    let who = "X (Twitter)";
    let bearer = format!("Bearer {}", asker.field("bearer_token"));
    let headers = [("authorization", bearer.as_str())];
    let request = Request { path: "/2/users/by/username/x", headers: &headers, ..Request::default() };
    let answer = asker.ask(who, "https://api.x.com", request)?;
    match answer.status {
        // A plan may not allow this question, or not so often: the token was accepted.
        200..300 | 403 | 429 => Ok(Vec::new()),
        401 => Err(refused(who, &answer)),
        _ => Err(unsaid(who, &answer)),
    }
}

fn bugsnag(asker: &Asker<'_>) -> Checked {
    let token = format!("token {}", asker.field("token"));
    let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
    asker.get("Bugsnag", "https://api.bugsnag.com", "/user", &headers).map(|_| Vec::new())
}

fn plain(asker: &Asker<'_>, who: &str, origin: &str, path: &str) -> Checked {
    let bearer = asker.bearer();
    asker.get(who, origin, path, &[("authorization", bearer.as_str())]).map(|_| Vec::new())
}

fn hetzner(asker: &Asker<'_>) -> Checked {
    let bearer = asker.bearer();
    let headers = [("authorization", bearer.as_str())];
    let request = Request { path: "/v1/server_types", headers: &headers, ..Request::default() };
    let answer = asker.ask("Hetzner", "https://api.hetzner.cloud", request)?;
    let said = json(&answer)["error"]["message"].as_str().map(|text| cut(text, LONGEST_QUOTE).to_owned());
    accepted("Hetzner", answer).map(|_| Vec::new()).map_err(|no| match (no, said) {
        (No::Invalid(_), Some(said)) => No::Invalid(format!("Hetzner refused it: {said}")),
        (no, _) => no,
    })
}

fn cloudflare(asker: &Asker<'_>) -> Checked {
    let bearer = asker.bearer();
    let headers = [("authorization", bearer.as_str())];
    let ask = |path| {
        asker.ask("Cloudflare", "https://api.cloudflare.com", Request { path, headers: &headers, ..Request::default() })
    };
    let is_success = |answer: &Answer| (200..300).contains(&answer.status) && json(answer)["success"] == true;
    let verified = ask("/client/v4/user/tokens/verify")?;
    if is_success(&verified) && json(&verified)["result"]["status"] == "active" {
        return Ok(Vec::new());
    }
    let zones = ask("/client/v4/zones?per_page=1")?;
    match zones.status {
        _ if is_success(&zones) => Ok(Vec::new()),
        429 | 500.. => Err(unsaid("Cloudflare", &zones)),
        _ => Err(refused("Cloudflare", &zones)),
    }
}

fn reddit(asker: &Asker<'_>) -> Checked {
    let basic = STANDARD.encode(format!("{}:{}", asker.field("client_id"), asker.field("client_secret")));
    let (basic, agent) = (format!("Basic {basic}"), asker.field("user_agent"));
    let headers = [("authorization", basic.as_str()), ("user-agent", agent.as_str())];
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "password")
        .append_pair("username", &asker.field("username"))
        .append_pair("password", &asker.field("password"))
        .finish();
    let request = Request {
        method: Method::Post,
        path: "/api/v1/access_token",
        headers: &headers,
        form: Some(&form),
        ..Request::default()
    };
    let answer = asker.ask("Reddit", "https://www.reddit.com", request)?;
    let body = json(&answer);
    match (answer.status, &body["error"]) {
        (429 | 500.., _) => Err(unsaid("Reddit", &answer)),
        // A token that was given must not be shown, so the rest of such an answer is not quoted.
        (_, Value::String(code)) => Err(No::Invalid(format!("Reddit refused it: {}", cut(code, LONGEST_QUOTE)))),
        (_, Value::Number(code)) => Err(No::Invalid(format!("Reddit refused it: {code}"))),
        (200..300, _) if body["access_token"].is_string() => Ok(Vec::new()),
        (200..300, _) => Err(No::Invalid("Reddit gave no access token".to_owned())),
        (401, _) => Err(refused("Reddit", &answer)),
        _ => Err(unsaid("Reddit", &answer)),
    }
}
