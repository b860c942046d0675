//! Questions to a person. Who asks them knows only this trait: on a terminal it is `ui::dialogs`.

use std::fmt;

use anyhow::Result;

use super::Secret;

/// What is wrong with an answer, as a sentence that is shown before the question is asked again.
pub type Check<'a> = &'a dyn Fn(&str) -> Result<(), String>;

/// What an empty answer to a question of yes or no means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    Yes,
    No,
}

/// The person broke off with Ctrl-C; the command ends with status 130 and says nothing more.
#[derive(Debug)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Somebody who can be asked. Every question fails with [`Interrupted`] when the person breaks off.
pub trait Prompter {
    /// Shows lines that are no question.
    ///
    /// # Errors
    /// When they cannot be written.
    fn say(&mut self, text: &str) -> Result<()>;

    /// Asks for one of several; gives its index.
    ///
    /// # Errors
    /// When nobody answers, here and below.
    fn select(&mut self, message: &str, items: &[String], preselected: usize) -> Result<usize>;

    /// Asks for a line of text, without white space around it; `default` is what an empty answer means.
    ///
    /// # Errors
    /// See [`Prompter::select`].
    fn input(&mut self, message: &str, default: &str, check: Check<'_>) -> Result<String>;

    /// Asks for a secret line.
    ///
    /// # Errors
    /// See [`Prompter::select`].
    fn password(&mut self, message: &str, check: Check<'_>) -> Result<Secret>;

    /// Asks for yes or no.
    ///
    /// # Errors
    /// See [`Prompter::select`].
    fn confirm(&mut self, message: &str, preset: Preset) -> Result<bool>;

    /// Asks which of several are wanted; gives the answer for each.
    ///
    /// # Errors
    /// See [`Prompter::select`].
    fn checkbox(&mut self, message: &str, items: &[(String, bool)]) -> Result<Vec<bool>>;

    /// Asks for one of many, which can be narrowed down by typing; gives its index.
    ///
    /// # Errors
    /// See [`Prompter::select`].
    fn search(&mut self, message: &str, items: &[String]) -> Result<usize>;

    /// Asks for secret lines, up to and including the first one that is the last.
    ///
    /// # Errors
    /// See [`Prompter::select`].
    fn paste(&mut self, message: &str, is_last: fn(&str) -> bool) -> Result<Secret>;
}

/// Accepts every answer.
///
/// # Errors
/// Never.
pub fn anything(_: &str) -> Result<(), String> {
    Ok(())
}

/// Refuses an answer of nothing but white space.
///
/// # Errors
/// A sentence that says so.
pub fn something(text: &str) -> Result<(), String> {
    if text.trim().is_empty() { Err("Please enter a value.".to_owned()) } else { Ok(()) }
}
