//! What tasks print for people: headings, sentences that fit the line, verdicts. Colours only on a
//! terminal, and not where `NO_COLOR` asks for none.

use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

/// How wide a sentence may be: a common terminal, and not too wide to read.
const WIDTH: usize = 88;

/// How far everything below a heading stands in.
pub const INDENT: &str = "   ";

/// Standard output.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    colours: bool,
}

/// A way to print a piece of text, as the terminal's codes have it (ECMA-48, SGR).
#[derive(Clone, Copy, Debug)]
pub enum Style {
    /// What a heading or a name is printed in.
    Bold,
    /// What may be skipped.
    Dim,
    /// What went well.
    Good,
    /// What did not.
    Bad,
    /// What was sent.
    Sent,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Bad => "1;31",
            Self::Sent => "36",
        }
    }
}

#[expect(clippy::unused_self, reason = "what prints has a place to print to")]
impl Screen {
    /// Standard output as it is: a terminal or not.
    pub fn stdout() -> Self {
        let wanted = env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let able = env::var_os("TERM").is_some_and(|term| term != "dumb");
        Self {
            colours: wanted && able && io::stdout().is_terminal(),
        }
    }

    /// The text in a style, if this is a place for one.
    pub fn paint(self, style: Style, text: impl Display) -> String {
        if self.colours {
            format!("\x1b[{}m{text}\x1b[0m", style.code())
        } else {
            text.to_string()
        }
    }

    /// Prints a line. A reader that went away is no reason to fail.
    pub fn line(self, text: impl Display) {
        let _ = writeln!(io::stdout(), "{text}");
    }

    /// Prints a piece of a line at once.
    #[expect(clippy::unused_self, reason = "as of `line`")]
    pub fn piece(self, text: impl Display) {
        let mut stdout = io::stdout();
        let _ = write!(stdout, "{text}");
        let _ = stdout.flush();
    }

    /// Prints an empty line.
    pub fn gap(self) {
        self.line("");
    }

    /// Prints a heading with a rule behind it.
    pub fn heading(self, text: &str) {
        let rule = "─".repeat(WIDTH.saturating_sub(text.chars().count() + 1));
        self.gap();
        self.line(format_args!(
            "{} {}",
            self.paint(Style::Bold, text),
            self.paint(Style::Dim, rule)
        ));
    }

    /// Prints sentences, in lines that fit.
    pub fn sentences(self, text: &str) {
        for line in wrap(text, WIDTH - INDENT.len()) {
            self.line(format_args!("{INDENT}{line}"));
        }
    }
}

/// Breaks a text between words, so that no line is wider than `width` unless a word is.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("a bc  def g", 5), ["a bc", "def g"]);
        assert_eq!(wrap("unbreakable é", 5), ["unbreakable", "é"]);
        assert!(wrap(" ", 5).is_empty());
    }

    #[test]
    fn without_colours_a_text_is_as_it_was() {
        let plain = Screen { colours: false };
        assert_eq!(plain.paint(Style::Bad, "x"), "x");
        let colourful = Screen { colours: true };
        assert_eq!(colourful.paint(Style::Bad, "x"), "\x1b[1;31mx\x1b[0m");
    }
}
