//! The login page.

use maud::html;

use super::page;
use crate::http::Reply;

const STYLE: &str = include_str!("login.css");
/// Where people find the key.
const KEY_FILE: &str = "~/.action-llama/credentials/gateway_api_key/default/key";

/// The login page, with what went wrong.
pub(in crate::gateway) fn login(status: u16, error: Option<&str>) -> Reply {
    let body = html! {
        main {
            h1 { "Action Llama" }
            p { "Enter the API key of this gateway to log in." }
            @if let Some(error) = error {
                p.error role="alert" { (error) }
            }
            form method="POST" action="/login" {
                label for="key" { "API Key" }
                input type="password" id="key" name="key" autocomplete="current-password" autofocus required;
                button type="submit" { "Log in" }
            }
            p.hint { "The key is in the file " code { (KEY_FILE) } " on the machine that runs the gateway." }
        }
    };
    page(status, "Action Llama – Login", STYLE, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_went_wrong_and_where_the_key_is() {
        let page = login(401, Some("Invalid <key>"));
        let text = String::from_utf8(page.body).unwrap();
        for part in ["<h1>Action Llama</h1>", "Invalid &lt;key&gt;", KEY_FILE, "action=\"/login\"", "id=\"key\""] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!String::from_utf8(login(200, None).body).unwrap().contains("role=\"alert\""));
    }
}
