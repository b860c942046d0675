//! How many tokens a text has, roughly (agent-session.md §14.1). Errs on the high side for anything but English.

use std::sync::LazyLock;

use super::message::{Assistant, Block, Content, Message};
use super::tools;

/// Tokens of one image, whatever its size.
const IMAGE: u64 = 1200;

/// Tokens of a text: four ASCII characters make one, every other character counts as one.
pub fn text(text: &str) -> u64 {
    let ascii = text.bytes().filter(u8::is_ascii).count() as u64;
    // A character outside ASCII has exactly one byte that is neither ASCII nor a continuation.
    let other = text.bytes().filter(|byte| *byte >= 0xC0).count() as u64;
    ascii.div_ceil(4) + other
}

/// Tokens of one message.
pub fn message(message: &Message) -> u64 {
    match message {
        Message::User(parts) => content(parts),
        Message::Assistant(assistant) => answer(assistant),
        Message::ToolResult(result) => content(&result.content),
    }
}

/// Tokens of several messages.
pub fn messages(list: &[Message]) -> u64 {
    list.iter().map(message).sum()
}

/// Tokens of a response: its texts, and name and argument text of its calls.
pub fn answer(assistant: &Assistant) -> u64 {
    let blocks = assistant.content.iter().map(|block| match block {
        Block::Text { text: content, .. } | Block::Thinking { text: content, .. } => text(content),
        Block::ToolCall(call) => text(&call.name) + text(&call.raw),
    });
    blocks.sum()
}

/// Tokens of the four tool schemas, which go with every request that offers tools.
pub fn tools() -> u64 {
    static TOKENS: LazyLock<u64> = LazyLock::new(|| {
        let schemas = tools::schemas().iter();
        schemas.map(|tool| text(tool.name) + text(tool.description) + text(&tool.parameters.to_string())).sum()
    });
    *TOKENS
}

fn content(parts: &[Content]) -> u64 {
    let parts = parts.iter().map(|part| match part {
        Content::Text(content) => text(content),
        Content::Image(_) => IMAGE,
    });
    parts.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::message::{Image, ToolCall, ToolResult};

    #[test]
    fn four_ascii_characters_or_one_other_make_a_token() {
        #[track_caller]
        fn case(content: &str, tokens: u64) {
            assert_eq!(text(content), tokens, "{content}");
        }
        case("", 0);
        case("a", 1);
        case("abcd", 1);
        case("abcde", 2);
        case("äöü", 3);
        case("abcd漢字🦙", 4);
        case("ab漢", 2);
    }

    #[test]
    fn messages_count_texts_calls_and_images() {
        let call = ToolCall::from_raw("1", "bash", r#"{"command":"ls"}"#);
        let list = [
            Message::User(vec![Content::Text("abcdefgh".into())]),
            Message::Assistant(Assistant { content: vec![Block::ToolCall(call)], ..Assistant::default() }),
            Message::ToolResult(ToolResult {
                call_id: "1".into(),
                tool: "read".into(),
                content: vec![
                    Content::Text("abcd".into()),
                    Content::Image(Image { mime: "image/png", base64: "A".repeat(9000) }),
                ],
                is_error: false,
            }),
        ];
        assert_eq!(list.iter().map(message).collect::<Vec<_>>(), [2, 1 + 4, 1201]);
        assert_eq!(messages(&list), 1208);
    }

    #[test]
    fn schemas_are_part_of_a_request() {
        assert!((200..800).contains(&tools()), "{}", tools());
    }
}
