//! What is read from a stream, whatever pieces it comes in.

use super::*;

#[test]
fn a_stream_that_ends_before_its_finish_is_a_network_error() {
    let whole = read(TOOL_TURN).1.unwrap();
    let ends = event_ends(TOOL_TURN);
    // The event with the finish, the one with the usage, and `[DONE]`.
    let [finished, counted, _] = ends[ends.len() - 3..] else { unreachable!() };
    for end in [End::Regular, End::BrokenOff] {
        for cut in 0..TOOL_TURN.len() {
            let answer = read_pieces("groq", &[&TOOL_TURN.as_bytes()[..cut]], end).1;
            match answer {
                Ok(answer) if cut >= counted => assert_eq!(answer, whole, "{cut}"),
                Ok(answer) => assert!(cut >= finished - 2 && answer.content == whole.content, "{cut}"),
                Err(error) => assert!(cut < finished && error.kind == Kind::Network, "{cut}: {error}"),
            }
        }
    }
    let early = read(&TOOL_TURN[..ends[3]]).1.unwrap_err();
    assert_eq!((early.kind, early.message.as_str()), (Kind::Network, "stream ended early"));
}

proptest! {
    #[test]
    fn any_split_gives_the_same_response(cuts in proptest::collection::vec(0usize..2000, 0..12)) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (TOOL_TURN.len() + 1)).collect();
        cuts.extend([0, TOOL_TURN.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &TOOL_TURN.as_bytes()[pair[0]..pair[1]]).collect();
        prop_assert_eq!(read_pieces("groq", &pieces, End::BrokenOff), read(TOOL_TURN));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read_pieces("openrouter", &[&bytes], End::Regular);
    }

    #[test]
    fn a_damaged_stream_never_makes_it_panic(at in 0usize..1800, with in any::<u8>()) {
        let mut stream = TOOL_TURN.as_bytes().to_vec();
        stream[at] = with;
        let _ = read_pieces("groq", &[&stream], End::Regular);
    }

    #[test]
    fn no_chunks_make_it_panic(deltas in proptest::collection::vec(any_delta(), 0..12), from in 0usize..3) {
        let provider = ["mistral", "openrouter", "custom"][from];
        if let Ok(answer) = read_from(provider, &response(deltas, "stop")).1 {
            // Whatever it was, it can be sent back.
            let (model, compat, mut ids) = (model(provider, "m", "chat"), compat(provider), ids(provider));
            let messages = [prompt(), Message::Assistant(answer)];
            let mut conversation = Conversation::new("", &model, &compat, &mut ids);
            for_model(&messages, &model).into_iter().for_each(|turn| conversation.add(turn));
            serde_json::to_vec(&conversation.finish(None)).unwrap();
        }
    }
}

/// A delta with members that it may have, of types that they may have.
fn any_delta() -> impl Strategy<Value = Value> {
    let content = prop::sample::select(vec![
        json!("text"),
        json!(""),
        json!(null),
        json!([{"type": "text", "text": "x"}, {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, 3]),
        json!([{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "thinking"}, {}]),
        json!({"a": 1}),
    ]);
    let calls = prop::sample::select(vec![
        json!([{"index": 0, "id": "a", "function": {"name": "bash", "arguments": "{\"command\":"}}]),
        json!([{"index": 0, "function": {"arguments": "\"x\"}"}}, {"index": 7, "function": null}]),
        json!([{"id": "b", "function": {"name": "read", "arguments": {"path": "x"}}}, {"function": {"arguments": 3}}]),
        json!([{"index": -1, "id": "null"}, 3, null]),
        json!(null),
    ]);
    let thought = prop::sample::select(vec![json!("hm"), json!(""), json!(null), json!({"text": "x"})]);
    let details = prop::sample::select(vec![
        json!([{"type": "reasoning.text", "index": 0, "text": "a"}, {"type": "reasoning.text", "index": 0, "text": null}]),
        json!([{"type": "reasoning.encrypted", "data": "x"}, {"index": 0, "type": "reasoning.text", "signature": "s"}]),
        json!([3]),
        json!("x"),
    ]);
    (content, calls, thought, details).prop_map(|(content, calls, thought, details)| {
        json!({"content": content, "tool_calls": calls, "reasoning": thought, "reasoning_details": details})
    })
}

#[test]
fn texts_and_thinking_stream_in() {
    let (deltas, answer) = read(&response(
        vec![
            json!({"role": "assistant", "content": null, "reasoning": ""}),
            json!({"reasoning": "Hm"}),
            json!({"reasoning": "m."}),
            json!({"content": "I "}),
            json!({"refusal": "won't."}),
            json!({"mood": "glad"}),
        ],
        "stop",
    ));
    assert_eq!(deltas, ["thinking Hm", "thinking m.", "text I ", "text won't."]);
    let signature = Some(r#"{"field":"reasoning"}"#.to_owned());
    let thinking = Block::Thinking { text: "Hmm.".into(), signature, redacted: false };
    let answer = answer.unwrap();
    assert_eq!((answer.content, answer.stop), (vec![thinking, text("I won't.")], Stop::Stop));
}

/// Names, ids and arguments of the calls in a response.
fn calls(deltas: Vec<Value>) -> Vec<(String, String, String)> {
    let deltas = deltas.into_iter().map(|calls| json!({"tool_calls": calls})).collect();
    let answer = read(&response(deltas, "stop")).1.unwrap();
    assert_eq!(answer.stop, Stop::ToolUse);
    answer.calls().map(|call| (call.id.clone(), call.name.clone(), call.raw.clone())).collect()
}

#[test]
fn calls_come_in_all_kinds_of_pieces() {
    let call = |id: &str, name: &str, raw: &str| (id.to_owned(), name.to_owned(), raw.to_owned());
    let piece = |index: Value, id: Value, name: Value, arguments: Value| json!({"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    let null = Value::Null;
    // Two at once, mixed, with the name of one coming late.
    let mixed = calls(vec![
        json!([
            piece(json!(0), json!("a"), json!("bash"), json!("")),
            piece(json!(1), json!("b"), null.clone(), json!(""))
        ]),
        json!([piece(json!(1), null.clone(), json!("read"), json!("{\"path\":"))]),
        json!([
            piece(json!(0), null.clone(), null.clone(), json!("{}")),
            piece(json!(1), json!(""), null.clone(), json!("1}"))
        ]),
    ]);
    assert_eq!(mixed, [call("a", "bash", "{}"), call("b", "read", "{\"path\":1}")]);
    // Without numbers, a new id begins a new call.
    let unnumbered = calls(vec![
        json!([{"id": "a", "function": {"name": "bash", "arguments": "{\"command\":"}}]),
        json!([{"function": {"arguments": "1}"}}]),
        json!([{"id": "b", "function": {"name": "read", "arguments": {"path": "x"}}}]),
    ]);
    assert_eq!(unnumbered, [call("a", "bash", "{\"command\":1}"), call("b", "read", "{\"path\":\"x\"}")]);
    // All whole, and all with the same number.
    let same = calls(vec![json!([
        piece(json!(0), json!("a"), json!("bash"), json!("{\"command\":1}")),
        piece(json!(0), json!("b"), json!("bash"), json!("{\"command\":2}")),
    ])]);
    assert_eq!(same, [call("a", "bash", "{\"command\":1}"), call("b", "bash", "{\"command\":2}")]);
    // A server that gives every piece an id of its own.
    let restless = calls(vec![
        json!([piece(json!(0), json!("a"), json!("bash"), json!("{"))]),
        json!([piece(json!(0), json!("b"), null.clone(), json!("}"))]),
    ]);
    assert_eq!(restless, [call("a", "bash", "{}")]);
    // Ids that are none.
    let nameless = calls(vec![json!([
        piece(json!(0), json!("null"), json!("bash"), json!("{}")),
        piece(json!(1), null.clone(), json!("bash"), null.clone()),
        piece(json!(2), json!("call_2"), json!("bash"), json!("{}")),
    ])]);
    let ids: Vec<&str> = nameless.iter().map(|(id, ..)| id.as_str()).collect();
    assert_eq!(ids[..2], ["call_1", "call_2"]);
    assert!(!ids[..2].contains(&ids[2]), "{ids:?}");
}

#[test]
fn a_call_cut_by_the_output_limit_is_incomplete() {
    let function = json!({"name": "write", "arguments": "{\"path\":\"/tmp/x\",\"content\":\"ha"});
    let answer =
        read(&response(vec![json!({"tool_calls": [{"index": 0, "id": "a", "function": function}]})], "length"));
    let answer = answer.1.unwrap();
    assert_eq!(answer.stop, Stop::Length);
    assert!(!answer.calls().next().unwrap().complete);
}

#[test]
fn finish_reasons() {
    #[track_caller]
    fn case(reason: &str, expected: Result<Stop, Kind>) {
        let (deltas, answer) = read(&response(vec![json!({"content": "x"})], reason));
        assert_eq!(answer.map(|answer| answer.stop).map_err(|error| error.kind), expected, "{reason}");
        let warned = deltas.iter().any(|delta| delta.starts_with("warning"));
        assert_eq!(warned, reason == "tired");
    }
    case("stop", Ok(Stop::Stop));
    case("length", Ok(Stop::Length));
    case("model_length", Ok(Stop::Length));
    case("tool_calls", Ok(Stop::ToolUse));
    case("function_call", Ok(Stop::ToolUse));
    case("content_filter", Err(Kind::Refusal));
    case("error", Err(Kind::Server));
    case("tired", Ok(Stop::Stop));
    let done = read("data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: [DONE]\n\n").1.unwrap();
    assert_eq!((done.stop, done.text().as_str()), (Stop::Stop, "x"));
}

#[test]
fn comments_keep_alives_and_odd_events_are_skipped() {
    let stream = format!(
        ": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\nevent: ping\n\ndata:\n\n{}{}{}{DONE}",
        "data: {\"choices\":[]}\n\n", "data: {\"choices\":null,\"usage\":null}\n\n", "data: {\"choices\":[{}]}\n\n",
    );
    assert_eq!(read(&stream).1.unwrap().text(), "ok");
    let half = response(vec![json!({"content": "LONE"})], "stop").replace("LONE", r"a\ud83d!");
    assert_eq!(read(&half).1.unwrap().text(), "a\u{fffd}!");
    let long = "ü".repeat(512 << 10);
    assert_eq!(read(&response(vec![json!({"content": long})], "stop")).1.unwrap().text(), long);
}

#[test]
fn counts_do_not_overlap() {
    let count = |usage: Value| {
        let chunk = json!({"choices": [], "usage": usage});
        let usage = read(&sse(&[finish("stop"), chunk])).1.unwrap().usage;
        [usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens]
    };
    let prompt = |cached: u64, written: u64| json!({"cached_tokens": cached, "cache_write_tokens": written});
    let reasoning = |tokens: u64| json!({"reasoning_tokens": tokens});
    assert_eq!(count(json!({"prompt_tokens": 100, "completion_tokens": 9})), [100, 9, 0, 0]);
    assert_eq!(count(json!({"prompt_tokens": 100, "prompt_tokens_details": prompt(40, 0)})), [60, 0, 40, 0]);
    assert_eq!(count(json!({"prompt_tokens": 100, "prompt_tokens_details": prompt(40, 30)})), [60, 0, 10, 30]);
    assert_eq!(count(json!({"prompt_tokens": 100, "prompt_tokens_details": prompt(20, 30)})), [70, 0, 0, 30]);
    assert_eq!(count(json!({"prompt_tokens": 100, "prompt_cache_hit_tokens": 70})), [30, 0, 70, 0]);
    assert_eq!(count(json!({"prompt_tokens": 10, "prompt_cache_hit_tokens": 70})), [0, 0, 70, 0]);
    // Counted inside of the completion, and outside of it.
    let inside = json!({"prompt_tokens": 10, "completion_tokens": 9, "total_tokens": 19, "completion_tokens_details": reasoning(5)});
    assert_eq!(count(inside), [10, 9, 0, 0]);
    let outside = json!({"prompt_tokens": 10, "completion_tokens": 9, "total_tokens": 24, "completion_tokens_details": reasoning(5)});
    assert_eq!(count(outside), [10, 14, 0, 0]);
    let silent = json!({"prompt_tokens": 10, "completion_tokens": 9, "completion_tokens_details": reasoning(5)});
    assert_eq!(count(silent), [10, 9, 0, 0]);
    assert_eq!(count(json!({"prompt_tokens": null, "completion_tokens": "x"})), [0, 0, 0, 0]);
}

#[test]
fn counts_come_in_all_kinds_of_places() {
    let usage = json!({"prompt_tokens": 7, "completion_tokens": 3});
    let in_choice = json!({"choices": [{"delta": {}, "finish_reason": "stop", "usage": usage}]});
    let at_groq = json!({"choices": [{"delta": {}, "finish_reason": "stop"}], "x_groq": {"usage": usage}});
    let early =
        json!({"choices": [{"delta": {"content": "x"}}], "usage": {"prompt_tokens": 7, "completion_tokens": 1}});
    for chunks in [vec![in_choice], vec![at_groq], vec![early, json!({"usage": usage}), finish("stop")]] {
        let seen = read(&sse(&chunks)).1.unwrap().usage;
        assert_eq!((seen.input_tokens, seen.output_tokens), (7, 3), "{chunks:?}");
    }
    // What is charged counts where it is in dollars.
    let charged = |provider: &str, cost: Value| {
        let usage = json!({"usage": {"prompt_tokens": 7, "cost": cost}});
        read_from(provider, &sse(&[finish("stop"), usage])).1.unwrap().charged
    };
    assert_eq!(charged("openrouter", json!(0.25)), Some(0.25));
    assert_eq!(charged("openrouter", json!(0)), Some(0.0));
    assert_eq!((charged("openrouter", json!(-1)), charged("openrouter", Value::Null)), (None, None));
    assert_eq!(charged("groq", json!(0.25)), None);
}
