//! A session that is much longer than the context window of its model.

use crate::support::project::Project;

/// Most memory that `al-agent` may have taken at any time, in KiB.
const MEMORY: u64 = 40 << 10;

const SCRIPT: &str = r#"
version = 1
context_window = 32000

[[turn]]
text = "Turn {{turn}}."
repeat = 500
expect = { messages_max = 12, prompt_contains = "Do it all." }
  [[turn.call]]
  tool = "bash"
  args = { command = "rm -f /tmp/al-bash-*; yes 'a line of turn {{turn}}' | head -c 200000" }

[[turn]]
expect = { last_result_contains = "a line of turn 500" }
  [[turn.call]]
  tool = "bash"
  args = { command = "sed -n 's/^VmHWM:\\s*//p' /proc/$PPID/status" }

[[turn]]
text = "{{last_result}}"
"#;

#[test]
#[cfg_attr(no_docker, ignore = "AL_TEST_NO_DOCKER is set")]
fn five_hundred_turns_with_much_output_take_little_memory() {
    let project = Project::new();
    let agent = project.model_agent("long", SCRIPT);
    let done = project.run(&agent, &["--json", "Do it all."]);
    done.expect(0);
    assert_eq!(done.result()["usage"]["turnCount"], 502);
    let compacted = project.logged(&agent, "context compacted");
    assert!(compacted.len() > 100, "{}", compacted.len());
    for entry in &compacted {
        let [before, after] = ["tokensBefore", "tokensAfter"].map(|name| entry[name].as_u64().unwrap());
        assert!(before > 24_000 && after < 20_000, "{entry}");
    }
    let said = project.logged(&agent, "assistant").pop().unwrap()["text"].as_str().unwrap().to_owned();
    let peak = said.strip_suffix(" kB").and_then(|kib| kib.trim().parse::<u64>().ok());
    assert!(peak.is_some_and(|kib| kib <= MEMORY), "{said}");
}
