//! Who may ask the public face: the API key, or a session of somebody who logged in with it (gateway.md §5.2, §27.2).

use super::api_key::{Digest, Rotated, digest, is_same};
use super::public::Public;
use super::routes::no_storage_error;
use crate::base::clock::UnixMs;
use crate::base::log::{Entry, Level};
use crate::base::{Secret, ids};
use crate::http::{Headers, Method, Reply, Req};
use crate::store::sessions;

/// Name of the cookie.
const COOKIE: &str = "al_session";
/// Where a request with a cookie must come from a page of ours.
const CHANGING: [&str; 2] = ["/control/", "/api/"];

/// Lets a request through that shows the key or a session.
///
/// # Errors
/// The answer to any other one.
pub(super) fn authenticate(public: &Public, request: &Req) -> Result<(), Reply> {
    let valid = valid_key(public);
    let bearer = request.headers.get("Authorization").and_then(|value| value.strip_prefix("Bearer "));
    if bearer.is_some_and(|given| is_same(&digest(given), &valid)) {
        return Ok(());
    }
    match session_cookie(&request.headers) {
        Some(cookie) if is_same(&digest(cookie), &valid) || is_live(public, &valid, cookie)? => check_origin(request),
        _ => Err(unauthorized(request)),
    }
}

/// Whether this is the key. What else is known of the last one ends when it has changed.
pub(super) fn is_key(public: &Public, given: &str) -> bool {
    is_same(&digest(given), &valid_key(public))
}

/// Makes a session; gives the value of its cookie.
///
/// # Errors
/// The answer to give when it cannot be stored.
pub(super) fn open_session(public: &Public) -> Result<String, Reply> {
    let cookie = ids::hex64();
    let id = session_id(&valid_key(public), &cookie);
    let created = public.shared.store.write(move |tx| sessions::create(tx, &id, UnixMs::now()));
    public.shared.committed(created, no_storage_error)?;
    Ok(cookie)
}

/// Ends the session whose cookie a request carries.
///
/// # Errors
/// The answer to give when that cannot be stored.
pub(super) fn close_session(public: &Public, headers: &Headers) -> Result<(), Reply> {
    let Some(cookie) = session_cookie(headers) else { return Ok(()) };
    let id = session_id(&valid_key(public), cookie);
    let deleted = public.shared.store.write(move |tx| sessions::delete(tx, &id));
    public.shared.committed(deleted, no_storage_error).map(drop)
}

/// The cookie of a session, and the one that takes it away.
pub(super) fn cookie(public: &Public, request: &Req, value: Option<&str>) -> String {
    let secure = if public.proxies.is_https(request.peer, &request.headers) { "; Secure" } else { "" };
    match value {
        Some(value) => format!("{COOKIE}={value}; HttpOnly; SameSite=Strict; Path=/{secure}"),
        None => format!("{COOKIE}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0{secure}"),
    }
}

fn valid_key(public: &Public) -> Digest {
    let (digest, rotated) = public.key.current();
    if rotated == Rotated::Yes {
        let shared = &public.shared;
        shared.log.write(&Entry::new(Level::Info, "API key changed"));
        // They are of no use any more (see `session_id`), so a failure lets nobody in.
        if let Err(error) = shared.store.write(sessions::delete_all) {
            shared.log_error("sessions of the last key not deleted", &error);
        }
    }
    digest
}

/// The id of the session with this cookie. It depends on the key: another key, also one that was put there while nobody
/// looked, ends all sessions.
fn session_id(key: &Digest, cookie: &str) -> Secret {
    Secret::new(format!("{}:{cookie}", ids::hex(key)))
}

fn is_live(public: &Public, key: &Digest, cookie: &str) -> Result<bool, Reply> {
    let live = sessions::visit(&public.shared.store, &session_id(key, cookie), UnixMs::now());
    public.shared.looked_up("look up session", live)
}

/// The session that a request shows; of equal cookies the last one counts.
fn session_cookie(headers: &Headers) -> Option<&str> {
    let cookies = headers.all("Cookie").flat_map(|value| value.split(';')).filter_map(|part| part.split_once('='));
    let mut ours = cookies.filter(|(name, _)| name.trim() == COOKIE).map(|(_, value)| value.trim());
    ours.next_back().filter(|value| !value.is_empty())
}

/// Browsers send the cookie whatever page made the request; changes are for our own pages.
fn check_origin(request: &Req) -> Result<(), Reply> {
    let is_change = request.method == Method::Post && CHANGING.iter().any(|prefix| request.path.starts_with(prefix));
    match request.headers.get("Origin") {
        Some(origin) if is_change && !is_own(origin, request.headers.get("Host")) => {
            Err(Reply::error(403, "Forbidden"))
        }
        _ => Ok(()),
    }
}

/// Whether an origin is the host that was asked. A port that goes without saying may be missing on either side.
fn is_own(origin: &str, host: Option<&str>) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default = match scheme.to_ascii_lowercase().as_str() {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let bare = |text: &str| text.strip_suffix(default).unwrap_or(text).to_ascii_lowercase();
    host.is_some_and(|host| bare(host) == bare(authority))
}

fn unauthorized(request: &Req) -> Reply {
    if request.headers.joined("Accept").is_some_and(|accept| accept.contains("text/html")) {
        Reply::redirect("/login")
    } else {
        Reply::error(401, "Unauthorized")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_equal_cookies_counts() {
        let cookie = |values: &[&str]| {
            let fields = values.iter().map(|value| ("cookie".to_owned(), (*value).to_owned()));
            session_cookie(&Headers(fields.collect())).map(str::to_owned)
        };
        assert_eq!(cookie(&["a=b; al_session=x=y ;c"]).as_deref(), Some("x=y"));
        assert_eq!(cookie(&["al_session=1; al_session = 2"]).as_deref(), Some("2"));
        assert_eq!(cookie(&["al_session=1", "al_session=2"]).as_deref(), Some("2"));
        assert_eq!(cookie(&["al_session=1; al_session="]), None);
        assert_eq!(cookie(&["AL_SESSION=1; xal_session=2"]), None);
        assert_eq!(cookie(&[]), None);
    }

    #[test]
    fn origins_are_compared_with_the_host() {
        #[track_caller]
        fn case(origin: &str, host: &str, own: bool) {
            assert_eq!(is_own(origin, Some(host)), own, "{origin} {host}");
        }
        case("http://localhost:8080", "localhost:8080", true);
        case("http://LOCALHOST:8080", "localhost:8080", true);
        case("http://localhost:3000", "localhost:8080", false);
        case("http://localhost", "localhost:8080", false);
        case("https://al.example.com", "al.example.com", true);
        case("https://al.example.com", "al.example.com:443", true);
        case("http://al.example.com:80", "al.example.com", true);
        case("http://al.example.com.evil.example", "al.example.com", false);
        case("https://evil.example", "al.example.com", false);
        case("null", "al.example.com", false);
        case("file://al.example.com", "al.example.com", false);
        assert!(!is_own("http://localhost:8080", None));
    }
}
