//! Logging in and out, as a page and as an API (gateway.md §5.3, §27.2).

use serde_json::{Value, json};

use crate::gateway::public::Public;
use crate::gateway::routing::Asked;
use crate::gateway::{auth, form, pages};
use crate::http::Reply;

const INVALID: &str = "Invalid API key";
const TOO_MANY: &str = "Too many failed logins. Try again in a minute.";

/// Why somebody is not let in.
enum Denied {
    WrongKey,
    TooManyTries,
    /// Nobody can be let in now: this answer.
    NotNow(Reply),
}

/// `GET /login`
pub(in crate::gateway) fn page(_: &Public, _: &Asked<'_>) -> Result<Reply, Reply> {
    Ok(pages::login(200, None))
}

/// `POST /login`
pub(in crate::gateway) fn by_form(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    match log_in(public, asked, form::field(asked.req, "key").as_deref()) {
        Ok(cookie) => Ok(Reply::redirect("/dashboard").with_header("Set-Cookie", cookie)),
        Err(Denied::WrongKey) => Err(pages::login(401, Some(INVALID))),
        Err(Denied::TooManyTries) => Err(pages::login(429, Some(TOO_MANY)).with_header("Retry-After", "60")),
        Err(Denied::NotNow(reply)) => Err(reply),
    }
}

/// `POST /api/auth/login`
pub(in crate::gateway) fn by_json(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    let Ok(Value::Object(members)) = serde_json::from_slice(&asked.req.body) else {
        return Err(Reply::error(400, "invalid JSON body"));
    };
    match log_in(public, asked, members.get("key").and_then(Value::as_str)) {
        Ok(cookie) => Ok(Reply::json(200, &json!({ "success": true })).with_header("Set-Cookie", cookie)),
        Err(Denied::WrongKey) => Err(Reply::error(401, INVALID)),
        Err(Denied::TooManyTries) => Err(Reply::error(429, "too many requests").with_header("Retry-After", "60")),
        Err(Denied::NotNow(reply)) => Err(reply),
    }
}

/// Gives the cookie of a new session. Only failures count against a client.
fn log_in(public: &Public, asked: &Asked<'_>, key: Option<&str>) -> Result<String, Denied> {
    if !public.failed_logins.admit(asked.client) {
        return Err(Denied::TooManyTries);
    }
    if !key.is_some_and(|key| auth::is_key(public, key)) {
        return Err(Denied::WrongKey);
    }
    public.failed_logins.take_back(asked.client);
    let value = auth::open_session(public).map_err(Denied::NotNow)?;
    Ok(auth::cookie(public, asked.req, Some(&value)))
}

/// `POST /logout`
pub(in crate::gateway) fn log_out(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    auth::close_session(public, &asked.req.headers)?;
    Ok(Reply::redirect("/login").with_header("Set-Cookie", auth::cookie(public, asked.req, None)))
}

/// `POST /api/auth/logout`
pub(in crate::gateway) fn log_out_by_json(public: &Public, asked: &Asked<'_>) -> Result<Reply, Reply> {
    auth::close_session(public, &asked.req.headers)?;
    let reply = Reply::json(200, &json!({ "success": true }));
    Ok(reply.with_header("Set-Cookie", auth::cookie(public, asked.req, None)))
}

/// `GET /api/auth/check`
pub(in crate::gateway) fn check(_: &Public, _: &Asked<'_>) -> Result<Reply, Reply> {
    Ok(Reply::json(200, &json!({ "authenticated": true })))
}
