use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder};

/// A regular expression of a model, which the whole text must match. It is compiled at its first use and takes time
/// linear in the text.
#[derive(Debug)]
pub struct Pattern {
    source: &'static str,
    compiled: OnceLock<Regex>,
}

impl Pattern {
    /// A pattern with the model's text.
    pub const fn new(source: &'static str) -> Self {
        Self { source, compiled: OnceLock::new() }
    }

    /// The model's text, as messages quote it.
    pub const fn source(&self) -> &'static str {
        self.source
    }

    /// Whether all of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        // The models are written for an engine whose classes are ASCII and whose match covers the whole text, so
        // Unicode classes are off and the expression is anchored on both sides.
        #[expect(clippy::expect_used, reason = "a test compiles every pattern of the generated tables")]
        let compiled = self.compiled.get_or_init(|| {
            RegexBuilder::new(&format!("^(?:{})$", self.source))
                .unicode(false)
                .build()
                .expect("the models' patterns compile")
        });
        compiled.is_match(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_text_must_match() {
        let digits = Pattern::new("[0-9]{12}");
        assert!(digits.matches("012345678901"));
        for wrong in ["01234567890", "0123456789012", "x012345678901", "012345678901\n", ""] {
            assert!(!digits.matches(wrong), "{wrong:?}");
        }
        let either = Pattern::new("^$|a+");
        assert!(either.matches("") && either.matches("aa") && !either.matches("ab"));
    }

    #[test]
    fn classes_are_ascii() {
        let word = Pattern::new(r"^arn(-\w+)*$");
        assert!(word.matches("arn-us_1"));
        assert!(!word.matches("arn-é"));
    }
}
