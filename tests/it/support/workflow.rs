//! A GitHub Actions workflow as far as its shell steps go. Reads the plain form that our example has: two blanks per
//! level, one key per line, scripts after `run: |`.

/// A step with a script.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) run: String,
}

/// The steps of the only job that have a script.
pub(crate) fn steps(yaml: &str) -> Vec<Step> {
    let lines: Vec<&str> = yaml.lines().collect();
    let mut steps: Vec<Step> = Vec::new();
    let mut part = "";
    for line in &lines {
        let indent = line.len() - line.trim_start().len();
        if let Some(name) = line.trim_start().strip_prefix("- ").filter(|_| indent == 6) {
            steps.push(Step { name: name.trim_start_matches("name: ").to_owned(), ..Step::default() });
            part = "";
            continue;
        }
        let Some(step) = steps.last_mut() else { continue };
        match (indent, line.trim()) {
            (8, key @ ("env:" | "run: |")) => part = key,
            (10.., text) if part == "env:" => {
                let (name, value) = text.split_once(": ").expect("a variable has a value");
                step.env.push((name.to_owned(), value.to_owned()));
            }
            (0, "") if part == "run: |" => step.run.push('\n'),
            (10.., _) if part == "run: |" => step.run += &format!("{}\n", &line[10..]),
            (8, _) => part = "",
            _ => panic!("not understood: {line:?}"),
        }
    }
    steps.retain(|step| !step.run.is_empty());
    assert!(!steps.is_empty(), "a workflow without scripts");
    steps
}
