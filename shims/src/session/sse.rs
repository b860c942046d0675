//! Server-sent events from a stream of bytes (agent-session.md §8).

/// Longest line, and most data of one event, in bytes.
const LONGEST: usize = 32 << 20;

/// The mark of UTF-8 that a text may begin with.
const BOM: &[u8] = "\u{feff}".as_bytes();

/// One event. Fields other than these two are not used by any provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SseEvent {
    /// Empty when the stream did not name it.
    pub(super) name: String,
    /// The `data` lines, joined by newlines.
    pub(super) data: String,
}

/// A line or the data of an event is longer than any provider sends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Splits bytes into events, however the bytes are cut into pieces.
#[derive(Default)]
pub(super) struct Parser {
    /// Start of a line whose end has not come yet.
    partial: Vec<u8>,
    /// The last piece ended with `\r`; a `\n` that follows belongs to it.
    after_cr: bool,
    /// The first line has been read.
    begun: bool,
    event: Option<SseEvent>,
    has_data: bool,
}

impl Parser {
    /// A parser at the start of a stream.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and appends the events that end in them.
    ///
    /// # Errors
    /// See [`TooLong`]; the stream cannot be continued then.
    pub(super) fn feed(&mut self, mut bytes: &[u8], events: &mut Vec<SseEvent>) -> Result<(), TooLong> {
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            if self.partial.is_empty() {
                self.line(&bytes[..end], events)?;
            } else {
                self.keep(&bytes[..end])?;
                let line = std::mem::take(&mut self.partial);
                self.line(&line, events)?;
                self.partial = line;
                self.partial.clear();
            }
            let cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if cr {
                self.after_cr = bytes.is_empty();
                bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
            }
        }
        self.keep(bytes)
    }

    /// The event that the end of the stream completes.
    ///
    /// # Errors
    /// See [`TooLong`].
    pub(super) fn finish(mut self) -> Result<Option<SseEvent>, TooLong> {
        let mut events = Vec::new();
        let rest = std::mem::take(&mut self.partial);
        if !rest.is_empty() {
            self.line(&rest, &mut events)?;
        }
        self.line(b"", &mut events)?;
        Ok(events.pop())
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.partial.len() + bytes.len() > LONGEST {
            return Err(TooLong);
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    fn line(&mut self, line: &[u8], events: &mut Vec<SseEvent>) -> Result<(), TooLong> {
        if line.is_empty() {
            self.has_data = false;
            events.extend(self.event.take());
            return Ok(());
        }
        if line.len() > LONGEST {
            return Err(TooLong);
        }
        // Some servers begin every text with the mark of its encoding.
        let mark: &[u8] = if std::mem::replace(&mut self.begun, true) { b"" } else { BOM };
        let line = line.strip_prefix(mark).unwrap_or(line);
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = String::from_utf8_lossy(value.strip_prefix(b" ").unwrap_or(value));
        match &line[..colon] {
            b"event" => self.event.get_or_insert_default().name = value.into_owned(),
            b"data" => {
                let event = self.event.get_or_insert_default();
                if event.data.len() + value.len() > LONGEST {
                    return Err(TooLong);
                }
                if self.has_data {
                    event.data.push('\n');
                    event.data.push_str(&value);
                } else {
                    event.data = value.into_owned();
                }
                self.has_data = true;
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(pieces: &[&[u8]]) -> Vec<SseEvent> {
        let mut parser = Parser::new();
        let mut events = Vec::new();
        for piece in pieces {
            parser.feed(piece, &mut events).unwrap();
        }
        events.extend(parser.finish().unwrap());
        events
    }

    #[track_caller]
    fn case(stream: &str, expected: &[(&str, &str)]) {
        let expected: Vec<SseEvent> =
            expected.iter().map(|(name, data)| SseEvent { name: (*name).into(), data: (*data).into() }).collect();
        assert_eq!(parse(&[stream.as_bytes()]), expected, "{stream:?}");
    }

    #[test]
    fn follows_the_rules() {
        case("event: a\ndata: 1\n\ndata: 2\n\n", &[("a", "1"), ("", "2")]);
        case("data: 1\r\rdata: 2\r\n\r\n", &[("", "1"), ("", "2")]);
        case("data: x\ndata: y\n\n", &[("", "x\ny")]);
        case("data:\ndata:\n\n", &[("", "\n")]);
        case("data:  two spaces\ndata:none\n\n", &[("", " two spaces\nnone")]);
        case(": comment\nid: 7\nretry: 5\nother\n\n", &[]);
        case("event: ping\n\n", &[("ping", "")]);
        case("event\ndata\n\n", &[("", "")]);
        case("data: a:b: c\n\n", &[("", "a:b: c")]);
        case("data: the end", &[("", "the end")]);
        case("data: 1\n\n\n\n", &[("", "1")]);
        case("\n\n", &[]);
        case("\u{feff}data: 1\n\n\u{feff}data: 2\n\n", &[("", "1")]);
        case("\u{feff}: comment\ndata: 1\n\n", &[("", "1")]);
    }

    #[test]
    fn bytes_that_are_not_text_do_not_stop_it() {
        assert_eq!(parse(&[b"data: \xff\xfe\n\n"])[0].data, "\u{fffd}\u{fffd}");
    }

    #[test]
    fn a_line_that_never_ends_is_refused() {
        let mut parser = Parser::new();
        let mut events = Vec::new();
        let piece = vec![b'x'; 1 << 20];
        let fed = (0..40).map(|_| parser.feed(&piece, &mut events)).take_while(Result::is_ok).count();
        assert_eq!(fed, 32);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_events(
            lines in proptest::collection::vec("(data|event|id|)(:| |: )[a-zü\u{1f600}]{0,6}|", 0..12),
            ends in proptest::collection::vec(prop_oneof!["\n", "\r\n", "\r"], 12),
            cuts in proptest::collection::vec(0usize..200, 0..12),
        ) {
            let stream: String = lines.iter().zip(&ends).map(|(line, end)| format!("{line}{end}")).collect();
            let bytes = stream.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(parse(&pieces), parse(&[bytes]));
        }
    }

    /// `cargo test --release -- --ignored --nocapture` prints what this machine does.
    #[test]
    #[ignore = "a measurement, not a check"]
    fn speed() {
        let event = format!("event: content_block_delta\ndata: {{\"text\":\"{}\"}}\n\n", "x".repeat(60));
        let stream = event.repeat((64 << 20) / event.len());
        let started = std::time::Instant::now();
        let mut parser = Parser::new();
        let mut events = Vec::new();
        for piece in stream.as_bytes().chunks(16 << 10) {
            parser.feed(piece, &mut events).unwrap();
            events.clear();
        }
        let rate = stream.len() as f64 / started.elapsed().as_secs_f64() / 1e6;
        assert!(rate > 50.0, "{rate:.0} MB/s");
    }
}
