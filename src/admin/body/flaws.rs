//! What is wrong with a body, gathered over all the steps that look at it: its shape, what its fields mean
//! together, what it refers to.
//!
//! A later step judges what an earlier one could read. So it asks first whether what it goes by is sound
//! ([`Flaws::touch`]), and what it says of a field that is wrong by its shape is not told.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::admin::problem::{FieldError, Problem};
use crate::vendor::Objection;

/// The most errors that are told; whoever has more has another problem.
pub const MOST: usize = 50;

/// What is wrong with a body so far.
#[derive(Debug, Clone, Default)]
pub struct Flaws {
    errors: Vec<FieldError>,
    /// How many of them are of its shape; those come first.
    of_shape: usize,
    left_out: LeftOut,
}

impl Flaws {
    /// What is wrong with a body's shape, and what was left out of its lists for that.
    #[must_use]
    pub(super) fn of_shape(errors: Vec<FieldError>, left_out: LeftOut) -> Self {
        Self {
            of_shape: errors.len(),
            errors,
            left_out,
        }
    }

    /// Whether nothing is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// Whether what stands at a pointer cannot be gone by: it is wrong, or something in it or around it. A
    /// member that there is not takes nothing from what it stands in.
    #[must_use]
    pub fn touch(&self, pointer: &str) -> bool {
        self.any_at(pointer, self.errors.len())
    }

    /// The same of the first so many errors.
    fn any_at(&self, pointer: &str, count: usize) -> bool {
        let at = self.left_out.as_sent(pointer);
        let errors = self.errors.iter().take(count);
        let mut spoilt = errors.filter(|error| !is_misspelt(error));
        spoilt.any(|error| is_within(&error.pointer, &at) || is_within(&at, &error.pointer))
    }

    /// Adds what a step found, unless it is about what was wrong by its shape.
    pub fn add(&mut self, pointer: &str, detail: impl Into<String>) {
        let at = self.left_out.as_sent(pointer);
        let mut of_shape = self.errors.iter().take(self.of_shape);
        if !of_shape.any(|error| is_within(&at, &error.pointer)) {
            self.errors.push(FieldError::new(at, detail));
        }
    }

    /// Adds those of `others` that say of a member which a merge patch takes away that there cannot be one of that
    /// name. That null is not what such a member holds is no flaw of the patch.
    pub fn add_unknown(&mut self, others: Self, patch: &Value) {
        for error in others.errors {
            let removed = patch.pointer(&error.pointer) == Some(&Value::Null);
            // As serde_json says it of an enum and of all else.
            let of_null = ["expected value", "invalid type: null"];
            if removed && !of_null.iter().any(|said| error.detail.starts_with(said)) {
                self.add(&error.pointer, error.detail);
            }
        }
    }

    /// Adds an objection, unless it hangs on something that is wrong by its shape.
    pub fn object(&mut self, objection: Objection) {
        let mut needs = objection.needs.iter();
        if !needs.any(|needed| self.any_at(needed, self.of_shape)) {
            self.add(&objection.pointer, objection.detail);
        }
    }

    /// The refusal: each field once for each thing that is wrong with it, at most [`MOST`].
    #[must_use]
    pub fn problem(mut self) -> Problem {
        self.errors.truncate(MOST);
        Problem::invalid(self.errors)
    }
}

/// Whether an error is about a member that there is not.
fn is_misspelt(error: &FieldError) -> bool {
    error.detail.starts_with("unknown field ")
}

/// The elements that were left out of a body's lists: by pointer of a list, as they were numbered.
#[derive(Debug, Clone, Default)]
pub(super) struct LeftOut(BTreeMap<String, Vec<usize>>);

impl LeftOut {
    /// Notes that the element with this number, in what is left of a list, is left out.
    pub(super) fn note(&mut self, list: &str, index: usize) {
        let out = self.0.entry(list.to_owned()).or_default();
        let original = original(out, index);
        let place = out.partition_point(|earlier| *earlier < original);
        out.insert(place, original);
    }

    /// A pointer into the body as it was sent.
    pub(super) fn as_sent(&self, at: &str) -> String {
        let mut told = String::new();
        let mut here = String::new();
        for name in at.split('/').skip(1) {
            let out = self.0.get(&here);
            let index = name.parse().ok();
            let sent = match (out, index) {
                (Some(out), Some(index)) => original(out, index).to_string(),
                _ => name.to_owned(),
            };
            told = format!("{told}/{sent}");
            here = format!("{here}/{name}");
        }
        told
    }
}

/// The number that an element had before those in `out`, in order, were taken away.
fn original(out: &[usize], index: usize) -> usize {
    out.iter().fold(index, |index, earlier| {
        index + usize::from(*earlier <= index)
    })
}

/// Whether a pointer leads to a place or into it.
pub(super) fn is_within(pointer: &str, place: &str) -> bool {
    pointer
        .strip_prefix(place)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
