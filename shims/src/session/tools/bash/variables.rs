//! Variables that outlive a call, in spite of a new shell for each: a file that is read before commands, and `setenv`,
//! which adds to it (agent-session.md §22.8).
//!
//! A command that has to do with neither is handed over as it is.

use std::ffi::OsString;
use std::path::Path;

use crate::text::shell_quote;

/// The file in the session's temporary directory.
const FILE: &str = "env.sh";
/// Reads the file and defines `setenv`.
const SCRIPT: &str = include_str!("variables.sh");
/// Carries out the script on the first line of the command, so that shells count its lines as ever.
const BEFORE: &str = r#"eval "$1"; "#;

/// What a shell is started with to run a command.
pub(super) fn arguments(command: &str, shell: &Path, tmp_dir: &Path) -> Vec<OsString> {
    let file = tmp_dir.join(FILE);
    if !command.contains("setenv") && !file.is_file() {
        return vec!["-c".into(), command.into()];
    }
    let script = SCRIPT.replace("__FILE__", &shell_quote(&file.to_string_lossy()));
    let line = format!("{BEFORE}{command}");
    vec!["-c".into(), line.clone().into(), shell.into(), script.into(), line.into(), file.into()]
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;
    use std::thread;

    use super::*;

    const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

    /// A session with one of the shells.
    struct Bed {
        shell: &'static Path,
        dir: tempfile::TempDir,
    }

    /// Exit status, standard output, standard error.
    type Seen = (Option<i32>, String, String);

    impl Bed {
        fn all() -> [Self; 2] {
            SHELLS.map(|shell| Self { shell: Path::new(shell), dir: tempfile::tempdir().unwrap() })
        }

        fn file(&self) -> std::path::PathBuf {
            self.dir.path().join(FILE)
        }

        fn run(&self, command: &str) -> Seen {
            self.start(arguments(command, self.shell, self.dir.path()))
        }

        fn start(&self, arguments: Vec<OsString>) -> Seen {
            let mut command = Command::new(self.shell);
            let path = std::env::var_os("PATH").unwrap();
            let done = command.args(arguments).env_clear().env("PATH", path).current_dir(&self.dir).output().unwrap();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            (done.status.code(), text(done.stdout), text(done.stderr))
        }

        #[track_caller]
        fn prints(&self, command: &str, expected: &str) {
            let seen = self.run(command);
            assert_eq!(seen, (Some(0), expected.to_owned(), String::new()), "{}: {command}", self.shell.display());
        }
    }

    #[test]
    fn variables_come_back_as_they_were_set() {
        for bed in Bed::all() {
            bed.prints(
                r#"setenv ONE "it's 'one' \\ \$X" _2 'a
  b' EMPTY ''; echo "$ONE""#,
                "set 3 variable(s)\nit's 'one' \\ $X\n",
            );
            bed.prints(
                r#"printf '<%s>' "$ONE" "$_2" "${EMPTY-unset}"; env | grep -c '^_2=a'"#,
                "<it's 'one' \\ $X><a\n  b><>1\n",
            );
            bed.prints("setenv ONE '' PLAIN grün; setenv ONE last", "set 2 variable(s)\nset 1 variable(s)\n");
            bed.prints("echo $ONE $PLAIN $#", "last grün 0\n");
            assert_eq!(fs::metadata(bed.file()).unwrap().permissions().mode() & 0o777, 0o600, "values may be secret");
        }
    }

    #[test]
    fn what_cannot_be_set_is_told_and_nothing_is_kept() {
        for bed in Bed::all() {
            for (arguments, expected) in [
                ("", "usage: setenv NAME value"),
                ("A", "usage: setenv NAME value"),
                ("A 1 B", "usage: setenv NAME value"),
                ("A 1 2B x", "\"2B\" is not a name"),
                ("A 1 B-C x", "\"B-C\" is not a name"),
                ("A 1 '' x", "\"\" is not a name"),
                ("A 1 É x", "\"É\" is not a name"),
                ("A 1 'B=1;C' x", "is not a name"),
                ("A 1 LONG \"$(head -c 140000 /dev/zero | tr '\\0' x)\"", "LONG is too long"),
            ] {
                let (status, output, errors) = bed.run(&format!("setenv {arguments}; echo $? $A"));
                assert_eq!((status, output.as_str()), (Some(0), "2\n"), "{arguments}");
                assert!(errors.contains(expected), "{arguments}: {errors}");
                assert!(!bed.file().exists(), "{arguments}");
            }
            let (status, output, errors) = bed.run("readonly FIXED=1; setenv A 1 FIXED 2; echo $? $FIXED $A");
            assert_eq!((status, output.ends_with(" 1\n")), (Some(0), true), "{output}{errors}");
            assert!(errors.contains("FIXED") && !bed.file().exists(), "{errors}");
            fs::create_dir(bed.file()).unwrap();
            let (status, output, errors) = bed.run("setenv A 1; echo $? $A");
            assert_eq!((status, output.as_str()), (Some(0), "1\n"));
            assert!(errors.contains("could not be written"), "{errors}");
        }
    }

    #[test]
    fn commands_are_the_same_with_and_without_variables() {
        for bed in Bed::all() {
            fs::write(bed.file(), "KEPT=1\n").unwrap();
            for command in [
                "echo $? $0 $# \"$@\" $-; echo $KEPT >&2; trap",
                "nope\nnope2; echo $LINENO\nf() {\n  nope3\n}\nf; exit 3",
                "cat <<EOF; cat <<'EOF'\n$((1 + 1))\nEOF\n$x\nEOF\nnope; exit 4",
                "# a remark\nset -e\nfalse\necho not reached",
                "set -- a 'b c'; for word; do echo \"<$word>\"; done; ! true",
                "echo one\necho )\necho two",
                "\n\n  nope",
                "",
                "trap 'echo bye' EXIT; kill -TERM $$",
                "echo \"unfinished",
            ] {
                let plain = bed.start(vec!["-c".into(), command.replace("$KEPT", "1").into()]);
                assert_eq!(bed.run(command), plain, "{}: {command}", bed.shell.display());
            }
        }
    }

    #[test]
    fn a_command_that_has_nothing_to_do_with_variables_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(arguments("echo )", Path::new("/bin/sh"), dir.path()), ["-c", "echo )"]);
    }

    #[test]
    fn a_broken_file_is_named_and_the_command_run() {
        for bed in Bed::all() {
            for content in [
                "export A=1\nexit 3",
                "export A=1\nset -e\nfalse\nexit",
                "export A=1\necho ${NOPE?is not there}",
                "export A=1\necho )\n",
                "export A=1\nexport B='x",
                "export A=1\n./nowhere",
            ] {
                fs::write(bed.file(), content).unwrap();
                let (status, output, errors) = bed.run("echo $0 $#; exit 5");
                let case = format!("{}: {content:?}: {errors}", bed.shell.display());
                assert_eq!((status, output), (Some(5), format!("{} 0\n", bed.shell.display())), "{case}");
                assert!(errors.contains("env.sh"), "{case}");
            }
        }
    }

    #[test]
    fn any_shell_text_may_stand_in_the_file() {
        for bed in Bed::all() {
            fs::write(bed.file(), "greet() { echo \"hello $1\"; }\ncd /\nset -u\nSEEN=1 # without newline").unwrap();
            bed.prints("greet you; pwd; echo $SEEN; setenv MORE 2", "hello you\n/\n1\nset 1 variable(s)\n");
            bed.prints("echo $SEEN $MORE", "1 2\n");
            assert_ne!(bed.run("echo $NOT_SET").0, Some(0), "its options hold");
        }
    }

    #[test]
    fn calls_at_the_same_time_lose_nothing() {
        for bed in Bed::all() {
            let (bed, calls) = (&bed, 8);
            thread::scope(|scope| {
                for call in 0..calls {
                    // More than shells and pipes write at once, with newlines and quotes.
                    let value = "$(seq 9000 | sed \"s/$/'/\" | head -c 40000)";
                    scope
                        .spawn(move || bed.prints(&format!("setenv V{call} \"{call}{value}\""), "set 1 variable(s)\n"));
                }
            });
            let all = (0..calls).map(|call| format!("echo \"$V{call}\" | md5sum; "));
            let expected = (0..calls)
                .map(|call| format!("echo \"{call}$(seq 9000 | sed \"s/$/'/\" | head -c 40000)\" | md5sum; "));
            let expected = bed.start(vec!["-c".into(), expected.collect::<String>().into()]);
            assert_eq!(bed.run(&all.collect::<String>()), expected);
        }
    }
}
