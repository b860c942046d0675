//! The container log protocol: one JSON object per line on stdout (containers.md §11).

use serde_json::{Map, Value};

/// Level of a log entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    /// The number in log files (scheduler.md §13.2).
    pub fn number(self) -> u8 {
        match self {
            Self::Debug => 20,
            Self::Info => 30,
            Self::Warn => 40,
            Self::Error => 50,
        }
    }

    /// Level of a word; anything unknown is `Info`.
    pub fn from_word(word: &str) -> Self {
        match word {
            "debug" => Self::Debug,
            "warn" => Self::Warn,
            "error" => Self::Error,
            _ => Self::Info,
        }
    }
}

/// One line of the protocol.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    pub level: Level,
    pub msg: String,
    /// Milliseconds since the epoch, when the writer gave one.
    pub ts: Option<i64>,
    /// Counter from 1 per run, on lines of `al-agent` itself.
    pub seq: Option<u64>,
    /// All other members, in their order.
    pub fields: Map<String, Value>,
}

impl LogLine {
    /// Reads a line; `None` when it is not a JSON object with `"_log":true` (then it is plain output).
    pub fn parse(line: &str) -> Option<Self> {
        if !line.starts_with('{') || !line.contains("\"_log\"") {
            return None;
        }
        let Ok(Value::Object(mut fields)) = serde_json::from_str(line) else { return None };
        if fields.shift_remove("_log") != Some(Value::Bool(true)) {
            return None;
        }
        let level = fields.shift_remove("level");
        let msg = match fields.shift_remove("msg") {
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let ts = fields.shift_remove("ts").and_then(|ts| ts.as_f64()).map(|ts| ts as i64);
        let seq = fields.get("seq").and_then(Value::as_u64);
        if seq.is_some() {
            fields.shift_remove("seq");
        }
        Some(Self {
            level: level.as_ref().and_then(Value::as_str).map_or(Level::Info, Level::from_word),
            msg,
            ts,
            seq,
            fields,
        })
    }

    /// Writes the line, without a newline.
    pub fn render(&self) -> String {
        let mut object = Map::new();
        object.insert("_log".into(), Value::Bool(true));
        object.insert("level".into(), self.level.as_str().into());
        object.insert("msg".into(), self.msg.clone().into());
        for (name, value) in &self.fields {
            object.insert(name.clone(), value.clone());
        }
        if let Some(ts) = self.ts {
            object.insert("ts".into(), ts.into());
        }
        if let Some(seq) = self.seq {
            object.insert("seq".into(), seq.into());
        }
        Value::Object(object).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let line = r#"{"_log":true,"level":"info","msg":"bash","cmd":"git status","ts":1767225600000,"seq":17}"#;
        let parsed = LogLine::parse(line).unwrap();
        assert_eq!(
            (parsed.level, parsed.msg.as_str(), parsed.ts, parsed.seq),
            (Level::Info, "bash", Some(1767225600000), Some(17))
        );
        assert_eq!(parsed.render(), line);
    }

    #[test]
    fn anything_else_is_plain_output() {
        for line in ["hello", "{}", "{\"_log\":1}", "{\"_log\":true", "[true]", "{\"_log\":false}"] {
            assert_eq!(LogLine::parse(line), None, "{line}");
        }
    }
}
