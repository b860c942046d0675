//! HTML pages. Everything that is put into them is escaped by the templates.

mod login;

use maud::{DOCTYPE, Markup, html};

use crate::base::ids;
use crate::http::Reply;

pub(super) use login::login;

/// A page. `style` is trusted text of ours; nothing else may be in line, and nothing comes from elsewhere.
fn page(status: u16, title: &str, style: &str, body: &Markup) -> Reply {
    let nonce = ids::hex32();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style nonce=(nonce) { (maud::PreEscaped(style)) }
            }
            body { (body) }
        }
    };
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; img-src 'self' \
         data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    );
    let html = Reply {
        status,
        headers: vec![("Content-Type", "text/html; charset=UTF-8".into())],
        body: page.into_string().into_bytes(),
    };
    html.with_header("X-Content-Type-Options", "nosniff")
        .with_header("X-Frame-Options", "DENY")
        .with_header("Referrer-Policy", "no-referrer")
        .with_header("Cache-Control", "no-store")
        .with_header("Content-Security-Policy", policy)
}
