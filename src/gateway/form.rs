//! Fields of HTML forms, in both encodings that browsers and scripts use.

use crate::http::Req;

/// The first value of a field in a form; `None` when the body is no form or has no such field.
pub(super) fn field(request: &Req, name: &str) -> Option<String> {
    let content_type = request.headers.get("Content-Type")?;
    let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    match kind.trim().to_ascii_lowercase().as_str() {
        "application/x-www-form-urlencoded" => {
            let mut fields = form_urlencoded::parse(&request.body);
            fields.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
        }
        "multipart/form-data" => multipart_field(&request.body, &parameter(parameters, "boundary")?, name),
        _ => None,
    }
}

fn multipart_field(body: &[u8], boundary: &str, name: &str) -> Option<String> {
    let delimiter = format!("--{boundary}");
    let mut rest = &body[position(body, delimiter.as_bytes())? + delimiter.len()..];
    let end = format!("\r\n{delimiter}");
    // After a delimiter: `--` at the end of the form, the rest of the line otherwise.
    while !rest.starts_with(b"--") {
        let part = &rest[position(rest, b"\r\n")? + 2..];
        let (part, after) = part.split_at(position(part, end.as_bytes())?);
        if let Some(value) = value_of(part, name) {
            return Some(value);
        }
        rest = &after[end.len()..];
    }
    None
}

/// The content of a part when it is the named field.
fn value_of(part: &[u8], name: &str) -> Option<String> {
    let head_end = position(part, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&part[..head_end]);
    let disposition = head.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let (_, parameters) = disposition.split_once(';')?;
    let found = parameter(parameters, "name")? == name;
    found.then(|| String::from_utf8_lossy(&part[head_end + 4..]).into_owned())
}

/// A parameter behind a `;`, with or without quotes.
fn parameter(text: &str, name: &str) -> Option<String> {
    let mut parameters = text.split(';').filter_map(|parameter| parameter.split_once('='));
    let (_, value) = parameters.find(|(key, _)| key.trim().eq_ignore_ascii_case(name))?;
    let value = value.trim();
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    (!value.is_empty()).then(|| value.to_owned())
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Headers, Method, Query};

    #[track_caller]
    fn case(content_type: &str, body: &str, value: Option<&str>) {
        let request = Req {
            method: Method::Post,
            path: "/login".into(),
            query: Query::default(),
            headers: Headers(vec![("content-type".into(), content_type.into())]),
            body: body.into(),
            peer: [127, 0, 0, 1].into(),
        };
        assert_eq!(field(&request, "key").as_deref(), value, "{content_type} {body:?}");
    }

    #[test]
    fn both_encodings() {
        let form = "application/x-www-form-urlencoded";
        case(form, "a=b&key=x%2By+z&key=2", Some("x+y z"));
        case("Application/X-WWW-Form-URLencoded; charset=UTF-8", "key=", Some(""));
        case(form, "keys=x", None);
        case("application/json", r#"{"key":"x"}"#, None);
        let part = |name: &str, value: &str| {
            format!("--b1\r\nX: y\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let multipart = "multipart/form-data; boundary=b1";
        case(multipart, &(part("other", "1") + &part("key", "a\r\nb") + "--b1--\r\n"), Some("a\r\nb"));
        case("multipart/form-data; boundary=\"b1\"", &(part("key", "x") + "--b1--"), Some("x"));
        case(multipart, &(part("other", "1") + "--b1--\r\n" + &part("key", "x")), None);
        case("multipart/form-data", &part("key", "x"), None);
        for damaged in ["", "--b1", "--b1\r\n", "--b1\r\n\r\n--b1--", "--b1\r\nContent-Disposition: form-data\r\n\r\n"]
        {
            case(multipart, damaged, None);
        }
    }
}
