//! Masks secrets in text that comes in pieces: one may be spread over several of them.

use super::Masker;

/// Text on its way. What could be the beginning of a secret is held back until more has come.
pub struct MaskedStream {
    masker: Masker,
    held: String,
}

impl MaskedStream {
    /// A stream that is masked so.
    pub fn new(masker: Masker) -> Self {
        Self { masker, held: String::new() }
    }

    /// Takes a piece; gives what can be shown of the text so far.
    pub fn push(&mut self, piece: &str) -> String {
        self.held.push_str(piece);
        let rest = self.held.split_off(self.masker.settled(&self.held));
        let settled = std::mem::replace(&mut self.held, rest);
        self.masker.mask(&settled).into_owned()
    }

    /// The text has ended; gives what was held back.
    pub fn finish(&mut self) -> String {
        self.masker.mask(&std::mem::take(&mut self.held)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Secret;
    use super::*;

    #[test]
    fn a_secret_is_masked_however_it_is_cut() {
        let masker = Masker::new(&[Secret::new("hunter2-hunter2"), Secret::new("hunter2-hunter2-and-more")]);
        for text in ["it is hunter2-hunter2, hunter2-", "hunter2-hunter2-and-more", "hunter2-hunter2-and less"] {
            let whole = masker.mask(text).into_owned();
            for size in 1..text.len() {
                let mut stream = MaskedStream::new(masker.clone());
                let pieces = text.as_bytes().chunks(size).map(|piece| std::str::from_utf8(piece).unwrap());
                let mut shown: String = pieces.map(|piece| stream.push(piece)).collect();
                shown += &stream.finish();
                assert_eq!(shown, whole, "{size}");
            }
        }
    }

    #[test]
    fn only_what_could_be_a_secret_is_held_back() {
        let mut stream = MaskedStream::new(Masker::new(&[Secret::new("hunter2-hunter2")]));
        assert_eq!(stream.push("the hunt"), "the ");
        assert_eq!(stream.push(" is on"), "hunt is on");
        assert_eq!(stream.finish(), "");
        let mut stream = MaskedStream::new(Masker::default());
        assert_eq!(stream.push("grün"), "grün");
    }
}
