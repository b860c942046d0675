//! `al chat` at a terminal.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::llm::{Answer, Llm, Request, bash, text};
use crate::support::project::{NEVER, Project};
use crate::support::pty::{ALT_ENTER, CTRL_C, CTRL_D, ENTER, Pty, UP};
use crate::support::wait;

const SOON: Duration = Duration::from_secs(30);
const SHORTCUTS: &str = "Shortcuts: Enter = send, Shift+Enter / Alt+Enter = new line, Ctrl+C = cancel, Ctrl+D = exit";

/// A project with an agent `dev`, whose chats do not begin by themselves, and a server for its model.
fn bench() -> (Llm, Project) {
    let llm = Llm::start(Ipv4Addr::LOCALHOST.into());
    let project = Project::without_docker("");
    let table = format!(
        "[model]\nprovider = \"custom\"\napi = \"anthropic\"\nmodel = \"m-1\"\nbaseUrl = \"{}\"\ncontextWindow = 100000\nmaxTokens = 8000\n",
        llm.url()
    );
    project.write("config.toml", table);
    project.write("agents/dev/agent-config.toml", NEVER);
    (llm, project)
}

/// Starts a chat with the agent and waits until it is ready.
fn chat<'p>(project: &'p Project, args: &[&str]) -> Pty<'p> {
    let mut chat = project.al(&[&["chat", "dev"], args].concat()).in_own_session().on_pty();
    chat.wait_for(SHORTCUTS).wait_for("> ");
    chat
}

/// What the person said, message by message.
fn said(request: &Request) -> Vec<&str> {
    let users = request.messages().iter().filter(|message| message["role"] == "user");
    let blocks = users.flat_map(|message| message["content"].as_array().unwrap());
    blocks.filter_map(|block| block["text"].as_str()).collect()
}

#[test]
fn a_conversation_goes_on_until_ctrl_d() {
    let (llm, project) = bench();
    llm.play([text("First answer.").stream(), text("Second answer.").usage(1000, 20, 0, 0).stream()]);
    let mut chat = chat(&project, &[]);
    chat.type_in("Grüße").type_in(ENTER).wait_for("First answer.").wait_for("tokens").wait_for("> ");
    chat.type_in("and then?")
        .type_in(ENTER)
        .wait_for("Second answer.")
        .wait_for("[1035 tokens ($0.0000)]")
        .wait_for("> ");
    chat.type_in(CTRL_D);
    let (status, screen) = chat.finish();
    assert_eq!(status, 0, "{screen:#?}");
    let lines = |text: &str| screen.iter().filter(|line| *line == text).count();
    assert_eq!((lines("> Grüße"), lines("First answer."), lines("> and then?")), (1, 1, 1), "{screen:#?}");
    let requests = llm.finish();
    assert_eq!(said(&requests[1]), ["Grüße", "and then?"]);
    assert_eq!(requests[1].messages()[1]["content"][0]["text"], "First answer.");
}

#[test]
fn text_is_shown_as_it_comes_and_ctrl_c_gives_the_prompt_back() {
    let (llm, project) = bench();
    llm.play([text("This comes early.").stream().silent_behind("event: message_delta"), text("Here I am.").stream()]);
    let mut chat = chat(&project, &[]);
    chat.type_in("one").type_in(ENTER).wait_for("This comes early.");
    chat.type_in(CTRL_C).wait_for("[cancelled]").wait_for("> ");
    llm.wait_for_closed(1, SOON);
    chat.type_in("two").type_in(ENTER).wait_for("Here I am.").wait_for("> ").type_in(CTRL_D);
    assert_eq!(chat.finish().0, 0);
    assert_eq!(said(&llm.finish()[1]), ["one", "two"]);
}

#[test]
fn ctrl_c_kills_the_running_command_and_the_model_is_told() {
    let (llm, project) = bench();
    llm.play([
        bash("trap '' TERM INT; tty; echo $$ >pid; sleep 300").bash("call_2", "touch never").stream(),
        text("I see.").stream(),
    ]);
    let mut chat = chat(&project, &["--yes"]);
    chat.type_in("wait").type_in(ENTER).wait_for("$ trap");
    let pid_file = project.root().join("agents/dev/pid");
    let pid =
        wait::until("the command", || fs::read_to_string(&pid_file).unwrap_or_default(), |pid| pid.ends_with('\n'));
    chat.type_in(CTRL_C).wait_for("Command aborted").wait_for("[cancelled]").wait_for("> ");
    let process = std::path::Path::new("/proc").join(pid.trim());
    wait::until("end of the command", || process.exists(), |exists| !exists);
    chat.type_in("what happened?").type_in(ENTER).wait_for("I see.").wait_for("> ").type_in(CTRL_D);
    assert_eq!(chat.finish().0, 0);
    let requests = llm.finish();
    let results: Vec<String> = requests[1].messages().iter().map(ToString::to_string).collect();
    assert!(results.concat().contains("not a tty") && results.concat().contains("Command aborted"), "{results:#?}");
    assert!(!project.root().join("agents/dev/never").exists());
}

#[test]
fn ctrl_c_twice_ends_the_chat() {
    let (llm, project) = bench();
    llm.play([Answer::silence()]);
    let mut first = chat(&project, &[]);
    first.type_in("one").type_in(ENTER);
    llm.wait_for_request(1, SOON);
    first.type_in(CTRL_C).wait_for("[cancelled]").wait_for("> ").type_in(CTRL_C);
    assert_eq!(first.finish().0, 130);
    let mut second = chat(&project, &[]);
    second.type_in("half a sent").type_in(CTRL_C).wait_for("^C").wait_for("> ").type_in(CTRL_C);
    assert_eq!(second.finish().0, 130);
}

#[test]
fn a_signal_ends_a_chat_that_waits_for_keys() {
    let (_llm, project) = bench();
    project.credential("git_ssh", "id_rsa", "-----BEGIN KEY-----\nk\n-----END KEY-----");
    project.write("agents/dev/agent-config.toml", format!("{NEVER}credentials = [\"git_ssh\"]\n"));
    for (signal, status) in [(Signal::TERM, 143), (Signal::HUP, 129)] {
        let mut chat = chat(&project, &[]);
        chat.type_in("half a sent").wait_for("half a sent").signal(signal);
        assert_eq!(chat.finish().0, status);
        assert!(project.remains().is_empty(), "{:?}", project.remains());
    }
}

#[test]
fn a_chat_ends_with_its_terminal() {
    let (llm, project) = bench();
    llm.play([bash("sleep 300").stream(), bash("sleep 300").stream()]);
    let al = env!("CARGO_BIN_EXE_al");
    // A shell that is told of the hangup itself, and passes nothing on.
    let status = project.outer().join("status");
    let line = format!("trap : HUP; {al} chat dev; echo $? >{}", status.display());
    for is_asked in [false, true] {
        let mut direct = chat(&project, &[]);
        let mut inner = project.al(&[]).through("setsid", &["--ctty", "sh", "-c", &line], al.as_ref()).on_pty();
        inner.wait_for(SHORTCUTS).wait_for("> ");
        if is_asked {
            for chat in [&mut direct, &mut inner] {
                chat.type_in("go").type_in(ENTER).wait_for("Run it?").wait_for("lways ");
            }
        }
        direct.hang_up();
        assert_eq!(direct.finish_without_terminal(), 129, "{is_asked}");
        inner.hang_up();
        inner.finish_without_terminal();
        assert_eq!(fs::read_to_string(&status).unwrap(), "129\n", "{is_asked}");
    }
    assert!(project.remains().is_empty(), "{:?}", project.remains());
}

#[test]
fn sigquit_kills_a_chat_after_it_has_given_the_terminal_back() {
    let (llm, project) = bench();
    project.credential("git_ssh", "id_rsa", "-----BEGIN KEY-----\nk\n-----END KEY-----");
    project.write("agents/dev/agent-config.toml", format!("{NEVER}credentials = [\"git_ssh\"]\n"));
    llm.play([bash("sleep 300").stream()]);
    for is_asked in [false, true] {
        let mut chat = chat(&project, &[]);
        if is_asked {
            chat.type_in("go").type_in(ENTER).wait_for("Run it?").wait_for("lways ");
        } else {
            chat.type_in("half a sent").wait_for("half a sent");
        }
        chat.signal(Signal::QUIT);
        assert_eq!(chat.finish().0, -Signal::QUIT.as_raw());
        assert!(project.remains().is_empty(), "{:?}", project.remains());
    }
}

#[test]
fn a_panic_leaves_the_terminal_as_it_was() {
    let (_llm, project) = bench();
    let mut chat = project.al(&["chat", "dev"]).in_own_session().env("AL_TEST_PANIC_AT", "chat-turn").on_pty();
    chat.wait_for(SHORTCUTS).wait_for("> ").type_in("go").type_in(ENTER).wait_for("internal error: at chat-turn");
    assert_eq!(chat.finish().0, 1);
}

#[test]
fn sigint_between_turns_ends_the_chat_only_with_a_second_one() {
    let (_llm, project) = bench();
    let mut first = chat(&project, &[]);
    first.signal(Signal::INT);
    first.type_in("one").wait_for("one").type_in("").type_in(CTRL_D);
    assert_eq!(first.finish().0, 0);
    let mut second = chat(&project, &[]);
    // Whichever is seen first, the other is the second one.
    second.signal(Signal::INT);
    second.type_in(CTRL_C);
    assert_eq!(second.finish().0, 130);
}

#[test]
fn a_person_decides_about_every_call_until_always() {
    let (llm, project) = bench();
    let write = serde_json::json!({"path": "notes.txt", "content": "one\ntwo\n"});
    llm.play([
        bash("touch first")
            .bash("call_2", "touch second")
            .call("call_3", "write", &write)
            .bash("call_4", "touch fourth")
            .stream(),
        text("Done.").stream(),
    ]);
    let mut chat = chat(&project, &[]);
    let question = "Run it? [y]es, [n]o, [a]lways";
    // What is typed before a question is not its answer.
    chat.type_in("go").type_in(ENTER).type_in("y");
    chat.wait_for("$ touch first").wait_for(question);
    let made = |name: &str| project.root().join("agents/dev").join(name).exists();
    chat.type_in("n").wait_for("no").wait_for("declined");
    chat.wait_for("$ touch second").wait_for(question).type_in("Y").wait_for("yes");
    chat.wait_for("write notes.txt").wait_for("+ one").wait_for("+ two").wait_for(question);
    assert!(!made("first") && made("second") && !made("notes.txt"));
    chat.type_in("a").wait_for("always").wait_for("$ touch fourth").wait_for("Done.").wait_for("> ").type_in(CTRL_D);
    let (status, screen) = chat.finish();
    assert_eq!((status, screen.concat().matches(question).count()), (0, 3), "{screen:#?}");
    assert!(made("notes.txt") && made("fourth"));
    let requests = llm.finish();
    let results = requests[1].results();
    assert!(results[0].1 && results[0].0.contains("declined"), "{results:?}");
    assert_eq!(results[1..].iter().map(|result| result.1).collect::<Vec<_>>(), [false; 3]);
}

#[test]
fn what_is_pasted_while_the_question_is_open_is_no_answer() {
    let (llm, project) = bench();
    llm.play([1, 2, 3].map(|_| bash("touch first").stream()));
    for pasted in ["yes, and then", "always\r", "so be it a"] {
        let mut chat = chat(&project, &[]);
        chat.type_in("go").type_in(ENTER).wait_for("Run it?").wait_for("lways ");
        // Nothing shows that it was read; Ctrl-C counts with it or behind it.
        chat.type_in(pasted).type_in(CTRL_C).wait_for("[cancelled]").wait_for("> ").type_in(CTRL_D);
        assert_eq!(chat.finish().0, 0, "{pasted}");
        assert!(!project.root().join("agents/dev/first").exists(), "{pasted}");
    }
}

#[test]
fn ctrl_c_at_the_question_ends_the_turn() {
    let (llm, project) = bench();
    llm.play([bash("touch first").bash("call_2", "touch second").stream(), text("Never mind.").stream()]);
    let mut chat = chat(&project, &[]);
    chat.type_in("go").type_in(ENTER).wait_for("Run it?").type_in(CTRL_C).wait_for("[cancelled]").wait_for("> ");
    chat.type_in("stop that").type_in(ENTER).wait_for("Never mind.").wait_for("> ").type_in(CTRL_D);
    assert_eq!(chat.finish().0, 0);
    assert!(!project.root().join("agents/dev/first").exists());
    llm.finish();
}

#[test]
fn sigint_at_the_question_is_as_ctrl_c_typed_there() {
    let (llm, project) = bench();
    llm.play([bash("touch first").bash("call_2", "touch second").stream(), text("Never mind.").stream()]);
    let mut chat = chat(&project, &[]);
    chat.type_in("go").type_in(ENTER).wait_for("Run it?").wait_for("lways ").signal(Signal::INT);
    chat.wait_for("^C").wait_for("[cancelled]").wait_for("> ");
    chat.type_in("stop that").type_in(ENTER).wait_for("Never mind.").wait_for("> ").type_in(CTRL_D);
    let (status, screen) = chat.finish();
    assert_eq!((status, screen.concat().matches("Run it?").count()), (0, 1), "{screen:#?}");
    assert!(!project.root().join("agents/dev/first").exists());
}

#[test]
fn what_is_pasted_piece_by_piece_is_no_answer_either() {
    let (llm, project) = bench();
    llm.play([bash("touch first").stream()]);
    let mut chat = chat(&project, &[]);
    chat.type_in("go").type_in(ENTER).wait_for("Run it?").wait_for("lways ");
    for piece in ["\x1b[200~so be it", "y", "\x1b[201~", "\x1b[200~", "a", "\x1b", "[201~", "\x1b[200~y\x1b[201~"] {
        chat.type_in(piece).wait_until_read();
    }
    chat.type_in(CTRL_C).wait_for("[cancelled]").wait_for("> ").type_in(CTRL_D);
    assert_eq!(chat.finish().0, 0);
    assert!(!project.root().join("agents/dev/first").exists());
}

#[test]
fn a_paste_that_goes_on_when_the_question_opens_is_no_answer() {
    let (llm, project) = bench();
    llm.play([bash("touch first").stream()]);
    let mut chat = chat(&project, &[]);
    chat.type_in("go").type_in(&format!("{ENTER}\x1b[200~so be it")).wait_for("Run it?").wait_for("lways ");
    chat.type_in("y").wait_until_read().type_in("\x1b[201~").wait_until_read();
    chat.type_in(CTRL_C).wait_for("[cancelled]").wait_for("> ").type_in(CTRL_D);
    assert_eq!(chat.finish().0, 0);
    assert!(!project.root().join("agents/dev/first").exists());
}

#[test]
fn a_paste_is_shown_as_soon_as_it_is_there_and_a_long_one_not_bit_by_bit() {
    let (llm, project) = bench();
    llm.play([text("So much.").stream()]);
    let mut chat = chat(&project, &[]);
    chat.type_in("\x1b[200~short\x1b[201~").wait_for("> short");
    let line = "All work and no play makes a long text. \n";
    let pasted = line.repeat(200_000 / line.len());
    chat.type_in(&format!("\x1b[200~{pasted}\x1b[201~")).type_in("end").wait_for("end");
    chat.type_in(ENTER).wait_for("So much.").wait_for("> ").type_in(CTRL_D);
    let (status, bytes) = chat.bytes_and_finish();
    assert_eq!(status, 0);
    assert_eq!(said(&llm.finish()[0]), [format!("short{pasted}end")]);
    let drawn = bytes.matches("\x1b[J").count();
    assert!(drawn < 50, "it was drawn {drawn} times");
}

#[test]
fn messages_are_edited_recalled_and_have_as_many_lines_as_wanted() {
    let (llm, project) = bench();
    llm.play([1, 2, 3, 4].map(|number| text(&format!("Answer {number}.")).stream()));
    let mut chat = chat(&project, &[]);
    chat.type_in("two\x01one ").type_in(ENTER).wait_for("Answer 1.").wait_for("> ");
    chat.type_in("first")
        .type_in(ALT_ENTER)
        .type_in("second\x1b[13;2uthird")
        .type_in(ENTER)
        .wait_for("Answer 2.")
        .wait_for("> ");
    chat.type_in("\x1b[200~pasted\nlines\r\n\x1b[201~").type_in(ENTER).wait_for("Answer 3.").wait_for("> ");
    // Three lines of the third message, then the second.
    chat.type_in(&UP.repeat(4)).type_in("\x17changed").type_in(ENTER).wait_for("Answer 4.").wait_for("> ");
    chat.type_in(CTRL_D);
    let (status, screen) = chat.finish();
    assert_eq!(status, 0);
    let requests = llm.finish();
    assert_eq!(said(&requests[3])[..3], ["one two", "first\nsecond\nthird", "pasted\nlines\n"]);
    assert_eq!(said(&requests[3])[3], "first\nsecond\nchanged");
    let at = screen.iter().position(|line| line == "> first").unwrap();
    assert_eq!(screen[at..at + 3], ["> first", "  second", "  third"]);
}

#[test]
fn a_terminal_that_can_only_print_gets_no_escape_sequence() {
    let (llm, project) = bench();
    llm.play([text("Plain.").stream(), bash("true").stream(), text("Done.").stream()]);
    for variable in ["TERM", "NO_COLOR"] {
        let value = if variable == "TERM" { "dumb" } else { "1" };
        let chat = project.al(&["chat", "dev"]).in_own_session().env(variable, value);
        let mut chat = if variable == "TERM" { chat.on_dumb_pty() } else { chat.on_pty() };
        chat.wait_for(SHORTCUTS).wait_for("> ").type_in("hel\x7flo").type_in(ENTER);
        if variable == "TERM" {
            chat.wait_for("Plain.");
        } else {
            chat.wait_for("Run it?").type_in("y").wait_for("Done.");
        }
        chat.wait_for("> ").type_in(CTRL_D);
        let (status, bytes) = chat.bytes_and_finish();
        assert_eq!(status, 0);
        assert!(!bytes.contains('\x1b'), "{bytes:?}");
    }
    assert_eq!(said(&llm.finish()[0]), ["helo"]);
}

#[test]
fn markdown_is_shown_as_what_it_means_only_where_there_are_colours() {
    let (llm, project) = bench();
    let answer = "# Plan\n- **first** `ls`\n```sh\nls **\n```\nThat is 2**3.";
    llm.play([text(answer).deltas_of(3).stream(), text(answer).deltas_of(3).stream()]);
    let mut coloured = chat(&project, &[]);
    coloured.type_in("go").type_in(ENTER).wait_for("That is 2**3.").wait_for("> ").type_in(CTRL_D);
    let (status, screen) = coloured.finish();
    assert_eq!(status, 0);
    let at = screen.iter().position(|line| line == "Plan").unwrap_or_else(|| panic!("{screen:#?}"));
    assert_eq!(screen[at + 1..at + 5], ["• first ls", "```sh", "ls **", "```"]);
    let mut plain = project.al(&["chat", "dev"]).in_own_session().env("NO_COLOR", "1").on_pty();
    plain
        .wait_for(SHORTCUTS)
        .wait_for("> ")
        .type_in("go")
        .type_in(ENTER)
        .wait_for("That is")
        .wait_for("> ")
        .type_in(CTRL_D);
    let (status, screen) = plain.finish();
    assert_eq!(status, 0);
    assert!(screen.join("\n").contains(answer), "{screen:#?}");
}

#[test]
fn a_failed_request_is_told_and_the_conversation_goes_on() {
    let (llm, project) = bench();
    llm.play([Answer::error(400, "invalid_request_error", "no \u{1b}[2J such thing"), text("Better.").stream()]);
    let mut chat = chat(&project, &[]);
    chat.type_in("one").type_in(ENTER).wait_for("Error: custom:m-1: ").wait_for("such thing").wait_for("> ");
    chat.type_in("two").type_in(ENTER).wait_for("Better.").wait_for("> ").type_in(CTRL_D);
    let (status, bytes) = chat.bytes_and_finish();
    assert_eq!(status, 0);
    assert!(!bytes.contains("\x1b[2J"), "{bytes:?}");
}

#[test]
fn text_of_a_request_that_is_repeated_is_marked_as_void() {
    let (llm, project) = bench();
    llm.play([
        text("Half of an ans").stream().cut_behind("event: content_block_stop"),
        text("The whole answer.").stream(),
    ]);
    let mut chat = chat(&project, &[]);
    chat.type_in("one").type_in(ENTER).wait_for("Half of an ans").wait_for("does not count").wait_for("trying again");
    chat.wait_for("The whole answer.").wait_for("> ").type_in(CTRL_D);
    assert_eq!(chat.finish().0, 0);
}

#[test]
fn a_chat_about_the_project_begins_with_its_agents() {
    let project = Project::without_docker("");
    project.write("mock.toml", "version = 1\non_exhausted = \"repeat\"\n[[turn]]\ntext = \"You said: {{prompt}}.\"\n");
    let begin = |project: &Project, expected: &[&str]| {
        let mut chat = project.al(&["chat"]).in_own_session().on_pty();
        chat.wait_for("Chat about the project").wait_for("outside a container").wait_for(SHORTCUTS);
        for part in expected {
            chat.wait_for(part);
        }
        chat.wait_for("tokens").wait_for("> ").type_in(CTRL_D);
        assert_eq!(chat.finish().0, 0);
    };
    begin(&project, &["> Help me to create the first agent", "You said: Help me"]);
    project.write("agents/dev/agent-config.toml", NEVER);
    project.write("agents/hook/agent-config.toml", "");
    begin(
        &project,
        &["> This project has 2 agents:", "- hook: schedule=webhook-only", "You said: This project has 2 agents"],
    );
}

#[test]
fn the_terminal_is_left_as_it_was() {
    let (llm, project) = bench();
    llm.play([text("Hello.").stream()]);
    let settings = |name: &str| format!("stty -a >{}", project.outer().join(name).display());
    let al = env!("CARGO_BIN_EXE_al");
    let line = format!("{}; {al} chat dev; {}", settings("before"), settings("after"));
    let mut chat = project.al(&[]).through("setsid", &["--ctty", "sh", "-c", &line], al.as_ref()).on_pty();
    chat.wait_for(SHORTCUTS)
        .wait_for("> ")
        .type_in("hi")
        .type_in(ENTER)
        .wait_for("Hello.")
        .wait_for("> ")
        .type_in(CTRL_D);
    assert_eq!(chat.finish().0, 0);
    let read = |name: &str| fs::read_to_string(project.outer().join(name)).unwrap();
    assert_eq!(read("before"), read("after"));
}
