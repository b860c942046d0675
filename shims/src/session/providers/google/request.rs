//! A request on the wire.

use std::borrow::Cow;
use std::collections::HashSet;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Serialize;
use serde_json::{Map, Value};

use super::answer::is_made_id;
use crate::session::history::{Part, Piece, Reply, Turn};
use crate::session::message::Image;
use crate::session::provider::Request;
use crate::session::tools;

/// Stands for the signature of a call that the model did not make itself; checked by generation 3 alone.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body<'a> {
    contents: Vec<WireContent<'a>>,
    system_instruction: WireContent<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTools>,
    generation_config: GenerationConfig,
}

#[derive(Serialize)]
struct WireContent<'a> {
    role: &'static str,
    parts: Vec<WirePart<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WirePart<'a> {
    #[serde(flatten)]
    what: What<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum What<'a> {
    Text(Cow<'a, str>),
    InlineData(Blob<'a>),
    FunctionCall(Call<'a>),
    FunctionResponse(Response<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Blob<'a> {
    mime_type: &'static str,
    data: &'a str,
}

#[derive(Serialize)]
struct Call<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Cow<'a, str>>,
    name: &'a str,
    args: &'a Map<String, Value>,
}

#[derive(Serialize)]
struct Response<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Cow<'a, str>>,
    name: &'a str,
    response: Output,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<WirePart<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Output {
    Output(String),
    Error(String),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireTools {
    function_declarations: Vec<Declaration>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Declaration {
    name: &'static str,
    description: &'static str,
    parameters_json_schema: &'static Value,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GenerationConfig {
    max_output_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<Thought>,
}

/// How much a model is to think.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Thought {
    /// Tokens; -1 leaves it to the model.
    ThinkingBudget(i64),
    ThinkingLevel(&'static str),
}

impl<'a> Body<'a> {
    /// The body of a request to the model `id`; `turns` is its conversation.
    pub(super) fn new(request: &Request<'a>, turns: Vec<Turn<'a>>, thought: Option<Thought>, id: &str) -> Self {
        Self {
            contents: contents(turns, id),
            system_instruction: WireContent { role: "user", parts: vec![text_part(request.system.into(), None)] },
            tools: if request.tools { vec![tool_list()] } else { Vec::new() },
            generation_config: GenerationConfig { max_output_tokens: request.max_tokens, thinking_config: thought },
        }
    }
}

fn tool_list() -> WireTools {
    let tools = tools::schemas().iter().map(|tool| Declaration {
        name: tool.name,
        description: tool.description,
        parameters_json_schema: &tool.parameters,
    });
    WireTools { function_declarations: tools.collect() }
}

/// What the user says stays apart from results: as many of these must follow a response as it has calls.
fn contents<'a>(turns: Vec<Turn<'a>>, id: &str) -> Vec<WireContent<'a>> {
    let signed_only = id.contains("gemini-3");
    let images_inside = generation(id).is_some_and(|generation| generation >= 3);
    let mut contents = Vec::new();
    // Ids that came over the wire, of the response before.
    let mut wire_ids = HashSet::new();
    for turn in turns {
        match turn {
            Turn::User(parts) => contents.push(user(parts.into_iter().map(part).collect())),
            Turn::Assistant(pieces) => {
                wire_ids = pieces.iter().filter_map(wire_id).collect();
                contents.push(WireContent { role: "model", parts: response(pieces, signed_only) });
            }
            Turn::Results(replies) => contents.extend(results(replies, &wire_ids, images_inside)),
        }
    }
    contents
}

/// The generation of a Gemini model.
fn generation(id: &str) -> Option<u32> {
    let rest = id.strip_prefix("gemini-")?;
    rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
}

fn user(parts: Vec<WirePart<'_>>) -> WireContent<'_> {
    WireContent { role: "user", parts }
}

/// The parts of a response. The first call of several has the signature for all of them, so that only a response
/// without any gets the substitute.
fn response(pieces: Vec<Piece<'_>>, signed_only: bool) -> Vec<WirePart<'_>> {
    let is_signed = |piece: &Piece<'_>| matches!(piece, Piece::Call { call, own: true, .. } if signature(call.signature.as_deref()).is_some());
    let substitute = (signed_only && !pieces.iter().any(is_signed)).then_some(NO_SIGNATURE);
    let wire = |piece| {
        let id = wire_id(&piece);
        match piece {
            Piece::Text { text, signature: own } => Some(text_part(text, signature(own))),
            Piece::Call { call, own, .. } => {
                let own = call.signature.as_deref().filter(|_| own);
                let what = What::FunctionCall(Call { id, name: &call.name, args: &call.args });
                Some(WirePart { what, thought_signature: signature(own).or(substitute) })
            }
            Piece::Thinking { .. } | Piece::Redacted { .. } => None,
        }
    };
    pieces.into_iter().filter_map(wire).collect()
}

/// The id of a call that the model itself gave it.
fn wire_id<'a>(piece: &Piece<'a>) -> Option<Cow<'a, str>> {
    match piece {
        Piece::Call { id, call, own: true } if !is_made_id(&call.id, &call.name) => Some(id.clone()),
        _ => None,
    }
}

/// A signature that can be one.
fn signature(signature: Option<&str>) -> Option<&str> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical);
    const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    signature.filter(|text| !text.is_empty() && BASE64.decode(text).is_ok())
}

/// Results of one turn; images of models that cannot take them inside follow.
fn results<'a>(replies: Vec<Reply<'a>>, wire_ids: &HashSet<Cow<'a, str>>, inside: bool) -> Vec<WireContent<'a>> {
    let mut responses = Vec::new();
    let mut after = Vec::new();
    for reply in replies {
        let id = Some(reply.id).filter(|id| wire_ids.contains(id));
        let (mut texts, mut images) = (Vec::new(), Vec::new());
        for part in reply.content {
            match part {
                Part::Text(text) => texts.push(text),
                Part::Image(image) => images.push(image_part(image)),
            }
        }
        let only_images = texts.is_empty() && !images.is_empty();
        let text = if only_images { "(see attached image)".to_owned() } else { texts.join("\n") };
        let response = if reply.is_error { Output::Error(text) } else { Output::Output(text) };
        let parts = if inside { std::mem::take(&mut images) } else { Vec::new() };
        let what = What::FunctionResponse(Response { id, name: reply.tool, response, parts });
        responses.push(WirePart { what, thought_signature: None });
        after.extend(images);
    }
    let mut contents = vec![user(responses)];
    if !after.is_empty() {
        after.insert(0, text_part("Tool result image:".into(), None));
        contents.push(user(after));
    }
    contents
}

fn part(part: Part<'_>) -> WirePart<'_> {
    match part {
        Part::Text(text) => text_part(text, None),
        Part::Image(image) => image_part(image),
    }
}

fn text_part<'a>(text: Cow<'a, str>, thought_signature: Option<&'a str>) -> WirePart<'a> {
    WirePart { what: What::Text(text), thought_signature }
}

fn image_part(image: &Image) -> WirePart<'_> {
    let what = What::InlineData(Blob { mime_type: image.mime, data: &image.base64 });
    WirePart { what, thought_signature: None }
}
