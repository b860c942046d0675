//! The changes made to Dockerfiles that users wrote.

use std::fs;
use std::path::Path;

use expect_test::{Expect, expect};

use super::*;

fn agent(base_programs: Programs) -> Target<'static> {
    Target { file: "agents/dev/Dockerfile", base: "al-agent:1a2b3c4d", base_programs, kind: Kind::Agent }
}

#[track_caller]
fn case(source: &str, expected: Expect) -> Transformed {
    let transformed = transform(source, agent(Programs::Current)).unwrap();
    expected.assert_eq(&transformed.text);
    transformed
}

#[track_caller]
fn customised(text: &str, expected: bool) {
    assert_eq!(is_customised(text), expected, "{text:?}");
}

#[test]
fn a_project_dockerfile_counts_when_it_does_something() {
    customised("", false);
    customised("# only\n\n  # comments\n", false);
    customised("FROM al-agent:latest\n", false);
    customised("# why\nFROM al-agent:latest\n\n   \n", false);
    customised("RUN apk add jq\n", false);
    customised("FROM al-agent:latest\nRUN apk add jq\n", true);
    customised("RUN apk add \\\n  jq\n", true);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/projects/dockerfiles");
    let read = |path: &str| fs::read_to_string(fixtures.join(path)).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&read("expected.json")).unwrap();
    for (name, kind) in expected["variants"].as_object().unwrap() {
        let text = read(&format!("variants/{name}.Dockerfile"));
        customised(&text, kind == "customised");
        let ours = if kind == "customised" { !text.contains("FROM debian") } else { continue };
        let found = transform(&text, agent(Programs::Current)).unwrap();
        assert!(found.uses_base && found.text.contains("al-agent:1a2b3c4d"), "{name}: {}", found.text);
        assert_eq!(found.needs_programs, !ours, "{name}");
    }
}

#[test]
fn an_agent_without_a_dockerfile() {
    let found = default_agent("al-agent:1a2b3c4d", Programs::Current);
    assert_eq!(found.text, "FROM al-agent:1a2b3c4d\nCOPY static/ /app/static/\n");
    assert!(found.uses_base && !found.needs_programs && !found.needs_user_files);
    let found = default_agent("mine:1", Programs::Unknown);
    assert_eq!(found.text, "FROM mine:1\nCOPY .al-bin/ /app/bin/\nCOPY static/ /app/static/\n");
    assert!(found.needs_programs);
}

#[test]
fn packages_need_no_user_lines() {
    case(
        "FROM al-agent:latest\nRUN apk add jq",
        expect![[r#"
        FROM al-agent:1a2b3c4d
        USER root
        RUN apk add jq
        USER node
        COPY static/ /app/static/
    "#]],
    );
}

#[test]
fn a_file_with_user_lines_keeps_them() {
    case(
        "FROM al-agent:0.12.1\nUSER root\nRUN apk add jq\nUSER node\n",
        expect![[r#"
        FROM al-agent:1a2b3c4d
        USER root
        RUN apk add jq
        USER node
        COPY static/ /app/static/
    "#]],
    );
}

#[test]
fn lower_case_flags_and_aliases() {
    let text = "# Tools\r\nfrom --platform=linux/amd64 al-agent as tools\r\nrun true\r\n";
    assert_eq!(
        transform(text, agent(Programs::Current)).unwrap().text,
        "# Tools\r\nfrom --platform=linux/amd64 al-agent:1a2b3c4d as tools\r\nUSER root\nrun true\r\nUSER node\n\
         COPY static/ /app/static/\n"
    );
}

#[test]
fn every_stage_and_copies_between_them() {
    case(
        "FROM golang:1.25 AS build\nUSER me\nRUN go build\nFROM al-project-base:latest AS mid\nRUN true\n\
         FROM al-agent\nCOPY --from=build /x /x\nCOPY --from=al-agent:latest /app/bin/al-call /c\n\
         COPY --chown=1:1 --from=al-project-base /y /y\n",
        expect![[r#"
            FROM golang:1.25 AS build
            USER me
            RUN go build
            FROM al-agent:1a2b3c4d AS mid
            RUN true
            FROM al-agent:1a2b3c4d
            USER root
            COPY --from=build /x /x
            COPY --from=al-agent:1a2b3c4d /app/bin/al-call /c
            COPY --chown=1:1 --from=al-agent:1a2b3c4d /y /y
            USER node
            COPY static/ /app/static/
        "#]],
    );
}

#[test]
fn a_standalone_image_stays_and_gets_the_programs() {
    let found = case(
        "FROM python:3.13\nRUN pip install x\n",
        expect![[r#"
        FROM python:3.13
        RUN pip install x
        COPY .al-bin/ /app/bin/
        COPY static/ /app/static/
    "#]],
    );
    assert!(!found.uses_base && found.needs_programs);
}

#[test]
fn a_stage_may_have_the_name_of_our_image() {
    let found = case(
        "FROM debian AS al-agent\nFROM al-agent\n",
        expect![[r#"
        FROM debian AS al-agent
        FROM al-agent
        COPY .al-bin/ /app/bin/
        COPY static/ /app/static/
    "#]],
    );
    assert!(!found.uses_base && found.needs_programs);
}

#[test]
fn a_last_stage_that_stands_on_ours_by_way_of_another() {
    let found = case(
        "FROM al-agent AS tools\nUSER root\nRUN true\nFROM Tools\nCOPY a b /c/\n",
        expect![[r#"
        FROM al-agent:1a2b3c4d AS tools
        USER root
        RUN true
        FROM Tools
        COPY a b /c/
        COPY static/ /app/static/
    "#]],
    );
    assert!(found.uses_base && !found.needs_programs && found.needs_user_files);
}

#[test]
fn names_that_only_begin_like_ours_stay() {
    let same = "FROM al-agent-tools:1\nFROM registry.example/al-agent:1\nFROM $BASE\nUSER x\n";
    let found = transform(same, agent(Programs::Current)).unwrap();
    assert!(found.text.starts_with(same) && !found.uses_base);
}

#[test]
fn what_looks_like_an_instruction_in_a_here_document_is_none() {
    case(
        "FROM al-agent\nRUN <<-\"EOF\" cat\n\tFROM al-agent\n\tUSER x\n\tEOF\nRUN echo '<<X'\n\
         COPY <<A <<B /etc/\nUSER a\nA\nUSER b \\\nB\nRUN cat <<<x\n",
        expect![[r#"
            FROM al-agent:1a2b3c4d
            USER root
            RUN <<-"EOF" cat
            	FROM al-agent
            	USER x
            	EOF
            RUN echo '<<X'
            COPY <<A <<B /etc/
            USER a
            A
            USER b \
            B
            RUN cat <<<x
            USER node
            COPY static/ /app/static/
        "#]],
    );
}

#[test]
fn comments_and_blank_lines_do_not_end_a_continuation() {
    case(
        "FROM al-agent\nRUN apk add \\\n  # the tool\n\n  jq \\  \n  && true\n# USER x\n",
        expect![[r#"
            FROM al-agent:1a2b3c4d
            USER root
            RUN apk add \
              # the tool

              jq \  
              && true
            # USER x
            USER node
            COPY static/ /app/static/
        "#]],
    );
    case(
        "# escape=`\nFROM al-agent\nRUN dir `\n && echo c:\\\n",
        expect![[r#"
        # escape=`
        FROM al-agent:1a2b3c4d
        USER root
        RUN dir `
         && echo c:\
        USER node
        COPY static/ /app/static/
    "#]],
    );
    // Below a comment it is one itself.
    let text = "# a comment\n# escape=`\nFROM al-agent\nRUN a \\\n b\n";
    assert!(transform(text, agent(Programs::Current)).is_ok());
}

#[test]
fn instructions_that_are_there_are_not_repeated() {
    let text = "FROM al-agent\nUSER root\nCOPY --chmod=0444 static/ /app/static/\n#COPY .al-bin/ /app/bin/\n";
    assert_eq!(transform(text, agent(Programs::Current)).unwrap().text, text.replace("al-agent", "al-agent:1a2b3c4d"));
    let text = "FROM python\ncopy [\".al-bin/\", \"/app/bin/\"]\nCOPY static/ /app/static/\n";
    let found = transform(text, agent(Programs::Current)).unwrap();
    assert_eq!(found.text, text);
    assert!(found.needs_programs && !found.needs_user_files);
}

#[test]
fn a_copy_in_an_earlier_stage_does_not_count() {
    case(
        "FROM al-agent AS a\nCOPY static/ /app/static/\nFROM al-agent\nUSER node\n",
        expect![[r#"
        FROM al-agent:1a2b3c4d AS a
        COPY static/ /app/static/
        FROM al-agent:1a2b3c4d
        USER node
        COPY static/ /app/static/
    "#]],
    );
}

#[test]
fn a_project_base_gets_no_baked_files() {
    let project = |base_programs| Target { kind: Kind::ProjectBase, base: "mine:1", ..agent(base_programs) };
    let text = "FROM al-project-base:latest\nUSER root\nRUN true\n";
    let found = transform(text, project(Programs::Current)).unwrap();
    assert_eq!(found.text, "FROM mine:1\nUSER root\nRUN true\n");
    let found = transform("FROM python\nRUN true\n", project(Programs::Current)).unwrap();
    assert_eq!(found.text, "FROM python\nRUN true\nCOPY .al-bin/ /app/bin/\n");
}

#[track_caller]
fn user_files(line: &str, expected: bool) {
    let found = transform(&format!("FROM al-agent\n{line}\n"), agent(Programs::Current)).unwrap();
    assert_eq!(found.needs_user_files, expected, "{line}");
}

#[test]
fn instructions_that_take_files_of_the_user() {
    user_files("RUN true", false);
    user_files("COPY requirements.txt /tmp/", true);
    user_files("COPY [\"a\", \"/tmp/\"]", true);
    user_files("COPY --from=build /a /b", false);
    user_files("ADD https://example.org/x /x", false);
    user_files("COPY <<EOF /x\ntext\nEOF", false);
    user_files("RUN --mount=type=bind,target=/src make", true);
    user_files("RUN --mount=type=cache,target=/root/.cache make", false);
    user_files("RUN --mount=from=build,target=/src make", false);
}

#[track_caller]
fn refused(text: &str, part: &str) {
    let error = transform(text, agent(Programs::Current)).unwrap_err().to_string();
    assert!(error.contains("agents/dev/Dockerfile") && error.contains(part), "{error}");
}

#[test]
fn broken_files_are_named() {
    refused("RUN true\n", "FROM");
    refused("# FROM al-agent\n", "FROM");
    refused("FROM al-agent\nRUN a \\\n", "\\");
    refused("FROM al-agent\nRUN a \\\n\n# comment", "\\");
}

mod props {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "(FROM al-agent|RUN|COPY|<<A|A|\\\\|\"|'|#|=|`|ü| |\n){0,40}") {
            let _ = transform(&text, agent(Programs::Current));
        }
    }
}
