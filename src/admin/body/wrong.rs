//! Everything that is wrong with a body, not only the first of it.
//!
//! A reader stops at the first flaw. So each flaw is written down and mended, by leaving out what is
//! wrong or putting something valid where something must be, and the rest is read again. What is
//! said of the mended parts themselves is not the caller's doing and is not told.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{Flaw, first};
use crate::admin::problem::FieldError;

/// The most errors that are told; whoever has more has another problem.
const MOST: usize = 50;

/// How often a body is read again: an error that is mended may take some tries.
const TRIES: usize = 200;

/// What is wrong with a body.
#[derive(Debug)]
pub struct Wrong<T> {
    /// Each field that is, in the order of reading.
    pub errors: Vec<FieldError>,
    /// What is left without them, if nothing had to be made up for it.
    pub rest: Option<T>,
}

/// Finds it all, from the first flaw on.
pub fn all<T: DeserializeOwned>(body: Value, flaw: Flaw) -> Wrong<T> {
    let mut mending = Mending {
        body,
        errors: Vec::new(),
        made_up: BTreeMap::new(),
        left_out: BTreeMap::new(),
    };
    let mut flaw = flaw;
    for _ in 0..TRIES {
        if !mending.mend(&flaw) || mending.errors.len() >= MOST {
            break;
        }
        match first::<T>(&mending.body) {
            Ok(rest) => {
                let whole = mending.made_up.is_empty();
                return Wrong {
                    errors: mending.errors,
                    rest: whole.then_some(rest),
                };
            }
            Err(next) => flaw = next,
        }
    }
    Wrong {
        errors: mending.errors,
        rest: None,
    }
}

/// A body that is being mended.
struct Mending {
    body: Value,
    errors: Vec<FieldError>,
    /// By pointer: how many values were tried in the place of one that must be there, and what it
    /// must be one of, if the reader said so.
    made_up: BTreeMap<String, (usize, Option<String>)>,
    /// By pointer of a list: the elements that were left out of it, as they were numbered.
    left_out: BTreeMap<String, Vec<usize>>,
}

impl Mending {
    /// Writes a flaw down, if it is the caller's, and mends it. False if nothing helps.
    fn mend(&mut self, flaw: &Flaw) -> bool {
        let at = &flaw.error.pointer;
        // Inside of what was made up, or where it stands: it was not good enough.
        let made_up = self.made_up.keys().find(|place| is_within(at, place));
        if let Some(place) = made_up.cloned() {
            return self.make_up(&place, &flaw.error.detail);
        }
        let told = self.as_sent(at);
        // What holds something that was mended may be wrong by that alone.
        let own = !self
            .errors
            .iter()
            .any(|error| is_within(&error.pointer, &told));
        if own {
            let detail = flaw.error.detail.clone();
            self.errors.push(FieldError::new(told, detail));
        }
        if flaw.missing {
            return self.make_up(at, "");
        }
        self.leave_out(at)
    }

    /// Puts the next valid value there is to try in a place.
    fn make_up(&mut self, place: &str, said: &str) -> bool {
        let one_of = said
            .split_once("expected one of `")
            .or_else(|| said.split_once("expected `"))
            .and_then(|(_, rest)| rest.split_once('`'))
            .map(|(first, _)| first.to_owned());
        let (tried, known) = self.made_up.entry(place.to_owned()).or_default();
        let value = if let (Some(one), None) = (one_of, known.as_ref()) {
            *known = Some(one.clone());
            Value::from(one)
        } else {
            let Some(value) = candidate(*tried) else {
                return false;
            };
            *tried += 1;
            value
        };
        put(&mut self.body, place, value)
    }

    /// Takes a member or an element away.
    fn leave_out(&mut self, at: &str) -> bool {
        let Some((parent, name)) = at.rsplit_once('/') else {
            return false;
        };
        match self.body.pointer_mut(parent) {
            Some(Value::Object(members)) => members.remove(&unescaped(name)).is_some(),
            Some(Value::Array(elements)) => {
                let Some(index) = name.parse().ok().filter(|index| *index < elements.len()) else {
                    return false;
                };
                elements.remove(index);
                let out = self.left_out.entry(parent.to_owned()).or_default();
                let original = original(out, index);
                let place = out.partition_point(|earlier| *earlier < original);
                out.insert(place, original);
                true
            }
            _ => false,
        }
    }

    /// A pointer into the body as it was sent.
    fn as_sent(&self, at: &str) -> String {
        let mut told = String::new();
        let mut here = String::new();
        for name in at.split('/').skip(1) {
            let out = self.left_out.get(&here);
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

/// Something of each kind that a record may ask for.
fn candidate(number: usize) -> Option<Value> {
    let values = [
        || json!("a"),
        || json!(1),
        || json!({}),
        || json!("https://a.example/"),
        || json!("1h"),
        || json!(true),
        || json!([]),
        || json!("a.example"),
        || json!(["a"]),
    ];
    values.get(number).map(|value| value())
}

/// Puts a member into the object that is to have it.
fn put(body: &mut Value, place: &str, value: Value) -> bool {
    let Some((parent, name)) = place.rsplit_once('/') else {
        return false;
    };
    let parent: Option<&mut Map<String, Value>> =
        body.pointer_mut(parent).and_then(Value::as_object_mut);
    parent.is_some_and(|members| {
        members.insert(unescaped(name), value);
        true
    })
}

/// Whether a pointer leads to a place or into it.
fn is_within(pointer: &str, place: &str) -> bool {
    pointer
        .strip_prefix(place)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A name in a pointer as it stands in the body (RFC 6901, section 4).
fn unescaped(name: &str) -> String {
    name.replace("~1", "/").replace("~0", "~")
}
