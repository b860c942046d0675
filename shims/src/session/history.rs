//! The conversation in the form in which it may be sent to one model (agent-session.md §4).

use std::borrow::Cow;
use std::collections::HashSet;

use super::message::{Assistant, Block, Content, Image, Message, ToolCall, ToolResult};
use super::provider::Model;

/// Most images in one request.
const IMAGES: usize = 20;
/// How many of the oldest go when there are more.
const DROPPED: usize = 11;
/// Longest id of a tool call.
const LONGEST_ID: usize = 64;

/// One step of a conversation. Two of the same kind never follow each other.
#[derive(Debug, PartialEq)]
pub(super) enum Turn<'a> {
    User(Vec<Part<'a>>),
    Assistant(Vec<Piece<'a>>),
    /// Results for all calls of the response before.
    Results(Vec<Reply<'a>>),
}

/// A part of a user message or result; texts are not blank.
#[derive(Debug, PartialEq)]
pub(super) enum Part<'a> {
    Text(Cow<'a, str>),
    Image(&'a Image),
}

/// A part of a response. Signatures are those of the model that the request goes to.
#[derive(Debug, PartialEq)]
pub(super) enum Piece<'a> {
    /// Blank only when it has a signature.
    Text {
        text: Cow<'a, str>,
        signature: Option<&'a str>,
    },
    Thinking {
        text: &'a str,
        signature: &'a str,
    },
    Redacted {
        data: &'a str,
    },
    /// `own`: the model itself made it, so that its signature and id mean something there.
    Call {
        id: Cow<'a, str>,
        call: &'a ToolCall,
        own: bool,
    },
}

/// A result of a tool.
#[derive(Debug, PartialEq)]
pub(super) struct Reply<'a> {
    pub(super) id: Cow<'a, str>,
    pub(super) tool: &'a str,
    pub(super) content: Vec<Part<'a>>,
    pub(super) is_error: bool,
}

/// What of a conversation is sent to `model`.
pub(super) fn for_model<'a>(messages: &'a [Message], model: &Model) -> Vec<Turn<'a>> {
    let mut turns = Vec::new();
    let mut ids = SentIds::new(model);
    let mut at = 0;
    while let Some(message) = messages.get(at) {
        at += 1;
        match message {
            Message::User(content) => add_user(&mut turns, parts(content, model)),
            // A result without its call cannot be sent.
            Message::ToolResult(_) => {}
            Message::Assistant(assistant) => {
                let results: Vec<&ToolResult> = messages[at..].iter().map_while(as_result).collect();
                at += results.len();
                add_response(&mut turns, assistant, &results, model, &mut ids);
            }
        }
    }
    turns
}

/// Replaces images by a text for good when there are more than a request may have. Returns whether it did.
pub(super) fn drop_old_images(messages: &mut [Message]) -> bool {
    let mut images: Vec<&mut Content> = messages
        .iter_mut()
        .filter_map(|message| match message {
            Message::User(content) => Some(content),
            Message::ToolResult(result) => Some(&mut result.content),
            Message::Assistant(_) => None,
        })
        .flatten()
        .filter(|part| matches!(part, Content::Image(_)))
        .collect();
    let mut dropped = false;
    while images.len() > IMAGES {
        for image in images.drain(..DROPPED) {
            *image = Content::Text("(image dropped)".into());
        }
        dropped = true;
    }
    dropped
}

/// Removes the thinking of some responses.
pub(super) fn drop_thinking_of(messages: &mut [Message], concerns: impl Fn(&Assistant) -> bool) {
    for message in messages {
        if let Message::Assistant(assistant) = message
            && concerns(assistant)
        {
            assistant.content.retain(|block| !matches!(block, Block::Thinking { .. }));
        }
    }
}

fn as_result(message: &Message) -> Option<&ToolResult> {
    match message {
        Message::ToolResult(result) => Some(result),
        _ => None,
    }
}

fn add_user<'a>(turns: &mut Vec<Turn<'a>>, parts: Vec<Part<'a>>) {
    match turns.last_mut() {
        _ if parts.is_empty() => {}
        Some(Turn::User(before)) => before.extend(parts),
        _ => turns.push(Turn::User(parts)),
    }
}

fn add_response<'a>(
    turns: &mut Vec<Turn<'a>>,
    assistant: &'a Assistant,
    results: &[&'a ToolResult],
    model: &Model,
    ids: &mut SentIds,
) {
    let own = is_own(assistant, model);
    let ids: Vec<Cow<'a, str>> = assistant.calls().map(|call| ids.of(&call.id, own)).collect();
    let pieces = pieces(assistant, model, &ids);
    // Thinking alone is no response that any provider takes back.
    let thinking = |piece: &Piece<'_>| matches!(piece, Piece::Thinking { .. } | Piece::Redacted { .. });
    if pieces.iter().all(thinking) {
        return;
    }
    let calls = assistant.calls().zip(ids);
    let replies: Vec<Reply<'a>> = calls.map(|(call, id)| reply(call, id, results, model)).collect();
    match turns.last_mut() {
        Some(Turn::Assistant(before)) => before.extend(pieces),
        _ => turns.push(Turn::Assistant(pieces)),
    }
    if !replies.is_empty() {
        turns.push(Turn::Results(replies));
    }
}

/// `ids` are those of the calls, in their order.
fn pieces<'a>(assistant: &'a Assistant, model: &Model, ids: &[Cow<'a, str>]) -> Vec<Piece<'a>> {
    let mut ids = ids.iter();
    let own = is_own(assistant, model);
    let text = |text: &'a str, signature: Option<&'a str>| {
        let says_something = !text.trim().is_empty() || (model.api == "google" && signature.is_some());
        says_something.then(|| Piece::Text { text: without_nul(text), signature })
    };
    let pieces = assistant.content.iter().filter_map(|block| match block {
        Block::Text { text: content, signature } => text(content, signature.as_deref().filter(|_| own)),
        // Gemini keeps its thoughts in the signatures of other parts.
        Block::Thinking { .. } if own && model.api == "google" => None,
        Block::Thinking { signature, redacted: true, .. } if own => {
            signature.as_deref().map(|data| Piece::Redacted { data })
        }
        Block::Thinking { redacted: true, .. } => None,
        Block::Thinking { text, signature: Some(signature), .. } if own => Some(Piece::Thinking { text, signature }),
        Block::Thinking { text: content, .. } => text(content, None),
        Block::ToolCall(call) => ids.next().map(|id| Piece::Call { id: id.clone(), call, own }),
    });
    pieces.collect()
}

/// Whether a response came from the model that the request goes to, and in the same format.
fn is_own(assistant: &Assistant, model: &Model) -> bool {
    assistant.provider == model.provider && assistant.model == model.id && assistant.api == model.api
}

fn reply<'a>(call: &'a ToolCall, id: Cow<'a, str>, results: &[&'a ToolResult], model: &Model) -> Reply<'a> {
    let tool = call.name.as_str();
    match results.iter().find(|result| result.call_id == call.id) {
        Some(result) => Reply { id, tool, content: parts(&result.content, model), is_error: result.is_error },
        None => {
            let content = vec![Part::Text("No result is available for this call.".into())];
            Reply { id, tool, content, is_error: true }
        }
    }
}

fn parts<'a>(content: &'a [Content], model: &Model) -> Vec<Part<'a>> {
    let parts = content.iter().filter_map(|part| match part {
        Content::Text(text) if text.trim().is_empty() => None,
        Content::Text(text) => Some(Part::Text(without_nul(text))),
        Content::Image(image) if model.facts.images => Some(Part::Image(image)),
        Content::Image(_) => Some(Part::Text("(image omitted: model has no image input)".into())),
    });
    parts.collect()
}

/// Providers keep conversations in places that cannot hold U+0000.
fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "").into() } else { text.into() }
}

/// The ids of calls as the target gets them.
struct SentIds {
    api: &'static str,
    /// All of this conversation.
    used: HashSet<String>,
}

impl SentIds {
    fn new(model: &Model) -> Self {
        Self { api: model.api, used: HashSet::new() }
    }

    /// The next one. The OpenAI formats get their own ids back as they are. Others become what every provider takes, and
    /// different from each other: some servers begin to count anew with every response, which others refuse.
    fn of<'a>(&mut self, id: &'a str, own: bool) -> Cow<'a, str> {
        let sent = match self.api {
            "responses" | "chat" if own => return id.into(),
            "responses" | "chat" => plain_id(split_id(id).0),
            _ => plain_id(id),
        };
        if self.used.insert(sent.clone().into_owned()) {
            return sent;
        }
        let mut number = 2;
        loop {
            let end = format!("_{number}");
            let other = format!("{}{end}", &sent[..sent.len().min(LONGEST_ID - end.len())]);
            if self.used.insert(other.clone()) {
                return other.into();
            }
            number += 1;
        }
    }
}

/// The parts of an id that OpenAI's Responses API gave, `<call id>|<item id>`; other ids have only the first.
pub(super) fn split_id(id: &str) -> (&str, Option<&str>) {
    match id.split_once('|') {
        Some((call, item)) if item.starts_with("fc_") => (call, Some(item)),
        _ => (id, None),
    }
}

/// An id in the form that every provider takes.
pub(super) fn plain_id(id: &str) -> Cow<'_, str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !id.is_empty() && id.len() <= LONGEST_ID && id.chars().all(allowed) {
        return id.into();
    }
    let plain: String = id.chars().map(|c| if allowed(c) { c } else { '_' }).take(LONGEST_ID).collect();
    if plain.is_empty() { "_".into() } else { plain.into() }
}

/// Gives calls that share an id, or have none, ids of their own: results are matched by id.
pub(super) fn distinct_ids(assistant: &mut Assistant) {
    let mut seen = HashSet::new();
    for block in &mut assistant.content {
        if let Block::ToolCall(call) = block {
            while call.id.is_empty() || !seen.insert(call.id.clone()) {
                call.id = format!("{}_{}", call.id, seen.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::registry::{Facts, Thinking};
    use crate::wire::config::Price;

    fn model(images: bool) -> Model {
        Model {
            provider: "anthropic".into(),
            id: "m".into(),
            api: "anthropic",
            base_url: None,
            thinking: Thinking::Medium,
            facts: Facts {
                reasoning: true,
                images,
                adaptive: false,
                context_window: 1000,
                max_tokens: 100,
                price: Price::default(),
            },
        }
    }

    fn image() -> Content {
        Content::Image(Image { mime: "image/png", base64: "AA==".into() })
    }

    fn user(text: &str) -> Message {
        Message::User(vec![Content::Text(text.into())])
    }

    fn response(model: &str, content: Vec<Block>) -> Message {
        let (provider, model) = ("anthropic".into(), model.into());
        Message::Assistant(Assistant { content, provider, model, api: "anthropic", ..Assistant::default() })
    }

    fn thinking(text: &str, signature: Option<&str>, redacted: bool) -> Block {
        Block::Thinking { text: text.into(), signature: signature.map(str::to_owned), redacted }
    }

    fn text(text: &str) -> Block {
        Block::Text { text: text.into(), signature: None }
    }

    fn said(text: &str) -> Piece<'_> {
        Piece::Text { text: text.into(), signature: None }
    }

    fn call(id: &str) -> Block {
        Block::ToolCall(ToolCall::from_raw(id, "bash", "{}"))
    }

    fn result(id: &str, content: Vec<Content>) -> Message {
        Message::ToolResult(ToolResult { call_id: id.into(), tool: "bash".into(), content, is_error: false })
    }

    #[test]
    fn user_messages_are_merged_and_cleaned() {
        let messages = [user("a\0b"), user("  \n"), user("c"), Message::User(vec![image()])];
        let expected = |last| vec![Turn::User(vec![Part::Text("ab".into()), Part::Text("c".into()), last])];
        let Message::User(content) = &messages[3] else { unreachable!() };
        let Content::Image(image) = &content[0] else { unreachable!() };
        assert_eq!(for_model(&messages, &model(true)), expected(Part::Image(image)));
        let omitted = Part::Text("(image omitted: model has no image input)".into());
        assert_eq!(for_model(&messages, &model(false)), expected(omitted));
    }

    #[test]
    fn every_call_has_a_result() {
        let messages = [response("m", vec![call("1"), call("2")]), result("2", vec![]), result("9", vec![])];
        let turns = for_model(&messages, &model(true));
        let Turn::Results(replies) = &turns[1] else { panic!("{turns:?}") };
        let seen: Vec<_> = replies.iter().map(|reply| (&*reply.id, reply.is_error, reply.content.len())).collect();
        assert_eq!(seen, [("1", true, 1), ("2", false, 0)]);
        assert_eq!(turns.len(), 2);
    }

    #[test]
    fn own_thinking_stays_as_it_is_and_foreign_thinking_becomes_text() {
        let blocks = || {
            vec![
                thinking("", Some("sig"), false),
                thinking("", Some("data"), true),
                thinking("unsigned", None, false),
                Block::Text { text: "said".into(), signature: Some("of text".into()) },
                text(" "),
            ]
        };
        let own = [response("m", blocks())];
        let expected = vec![
            Piece::Thinking { text: "", signature: "sig" },
            Piece::Redacted { data: "data" },
            said("unsigned"),
            Piece::Text { text: "said".into(), signature: Some("of text") },
        ];
        assert_eq!(for_model(&own, &model(true)), [Turn::Assistant(expected)]);
        let foreign = [response("other", blocks())];
        let expected = vec![said("unsigned"), said("said")];
        assert_eq!(for_model(&foreign, &model(true)), [Turn::Assistant(expected)]);
    }

    #[test]
    fn a_response_of_nothing_but_thinking_is_not_sent() {
        let messages = [user("a"), response("m", vec![thinking("x", Some("s"), false), text("")]), user("b")];
        let expected = Turn::User(vec![Part::Text("a".into()), Part::Text("b".into())]);
        assert_eq!(for_model(&messages, &model(true)), [expected]);
    }

    #[test]
    fn ids_fit_every_provider() {
        assert_eq!(plain_id("toolu_01-A"), "toolu_01-A");
        assert_eq!(plain_id("call|fc.1"), "call_fc_1");
        assert_eq!(plain_id(&"x".repeat(99)).len(), 64);
        assert_eq!(plain_id(""), "_");
        let Message::Assistant(mut assistant) = response("m", vec![call("a"), call("a"), call(""), call("")]) else {
            unreachable!()
        };
        distinct_ids(&mut assistant);
        let ids: HashSet<_> = assistant.calls().map(|call| call.id.clone()).collect();
        assert_eq!(ids.len(), 4);
    }

    #[test]
    fn openai_formats_get_their_own_ids_back_and_of_foreign_ones_the_first_part() {
        #[track_caller]
        fn case(api: &'static str, from: &str, expected: &str) {
            let mut messages = [response(from, vec![call("call.1|fc_2")]), result("call.1|fc_2", vec![])];
            let Message::Assistant(assistant) = &mut messages[0] else { unreachable!() };
            assistant.api = api;
            let target = Model { api, ..model(true) };
            let turns = for_model(&messages, &target);
            let [Turn::Assistant(pieces), Turn::Results(replies)] = turns.as_slice() else { panic!("{turns:?}") };
            let Piece::Call { id, .. } = &pieces[0] else { panic!("{pieces:?}") };
            assert_eq!((&**id, &*replies[0].id, replies[0].is_error), (expected, expected, false));
        }
        case("responses", "m", "call.1|fc_2");
        case("chat", "m", "call.1|fc_2");
        case("responses", "other", "call_1");
        case("chat", "other", "call_1");
        case("anthropic", "m", "call_1_fc_2");
        assert_eq!(split_id("a|b"), ("a|b", None));
        assert_eq!(split_id("a|fc_b"), ("a", Some("fc_b")));
    }

    #[test]
    fn ids_that_a_server_gives_again_and_again_are_told_apart_for_another() {
        let long = |end: &str| format!("{}{end}", "x".repeat(70));
        let messages = [
            response("other", vec![call("call_1"), call("call_2"), call(&long("a"))]),
            result("call_1", vec![Content::Text("first".into())]),
            result("call_2", vec![]),
            result(&long("a"), vec![]),
            response("other", vec![call("call_1"), call("call_1_2"), call(&long("b"))]),
            result("call_1", vec![Content::Text("second".into())]),
            result("call_1_2", vec![]),
            result(&long("b"), vec![]),
        ];
        let turns = for_model(&messages, &model(true));
        let mut seen = Vec::new();
        for turn in &turns {
            let ids: Vec<String> = match turn {
                Turn::Assistant(pieces) => pieces
                    .iter()
                    .map(|piece| match piece {
                        Piece::Call { id, .. } => id.to_string(),
                        other => panic!("{other:?}"),
                    })
                    .collect(),
                Turn::Results(replies) => replies.iter().map(|reply| reply.id.to_string()).collect(),
                Turn::User(_) => panic!("{turn:?}"),
            };
            seen.push(ids);
        }
        let (x64, x62) = ("x".repeat(64), "x".repeat(62));
        let first = ["call_1".to_owned(), "call_2".into(), x64];
        let second = ["call_1_2".to_owned(), "call_1_2_2".into(), format!("{x62}_2")];
        assert_eq!(seen, [&first, &first, &second, &second]);
        let Turn::Results(replies) = &turns[3] else { panic!("{turns:?}") };
        assert_eq!(replies[0].content, [Part::Text("second".into())]);
    }

    #[test]
    fn the_oldest_images_go_when_there_are_too_many() {
        let count = |messages: &[Message]| {
            let contents = messages.iter().map(|message| match message {
                Message::User(content) => content,
                Message::ToolResult(result) => &result.content,
                Message::Assistant(_) => unreachable!(),
            });
            contents.flatten().map(|part| matches!(part, Content::Image(_))).collect::<Vec<_>>()
        };
        let mut messages: Vec<Message> = (0..19).map(|_| result("1", vec![image()])).collect();
        messages.push(Message::User(vec![image()]));
        assert!(!drop_old_images(&mut messages));
        messages.push(result("2", vec![image()]));
        assert!(drop_old_images(&mut messages));
        let left = count(&messages);
        assert_eq!((left.iter().filter(|is_image| **is_image).count(), left[10], left[11]), (10, false, true));
    }
}
