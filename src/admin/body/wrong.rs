//! Everything that is wrong with a body, not only the first of it.
//!
//! A reader stops at the first flaw. So each flaw is written down and mended, by leaving out what is
//! wrong or putting something valid where something must be, and the rest is read again. What is
//! said of the mended parts themselves is not the caller's doing and is not told.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::flaws::{Flaws, LeftOut, MOST, is_within};
use super::{Flaw, first};
use crate::admin::problem::FieldError;

/// How often a body is read again: an error that is mended may take some tries.
const TRIES: usize = 200;

/// Finds it all, from the first flaw on: with it what is left of the body when all is mended, in which the
/// places that are wrong hold something made up; `None` if it cannot be mended.
pub fn all<T: DeserializeOwned>(body: Value, flaw: Flaw) -> (Option<T>, Flaws) {
    let mut mending = Mending {
        body,
        errors: Vec::new(),
        made_up: BTreeMap::new(),
        left_out: LeftOut::default(),
    };
    let mut flaw = flaw;
    let mut rest = None;
    for _ in 0..TRIES {
        if !mending.mend(&flaw) || mending.errors.len() >= MOST {
            break;
        }
        match first::<T>(&mending.body) {
            Ok(mended) => {
                rest = Some(mended);
                break;
            }
            Err(next) => flaw = next,
        }
    }
    (rest, Flaws::of_shape(mending.errors, mending.left_out))
}

/// A body that is being mended.
struct Mending {
    body: Value,
    errors: Vec<FieldError>,
    /// By pointer: how many values were tried in the place of one that must be there, and what it
    /// must be one of, if the reader said so.
    made_up: BTreeMap<String, (usize, Option<String>)>,
    left_out: LeftOut,
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
        let told = self.left_out.as_sent(at);
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
                self.left_out.note(parent, index);
                true
            }
            _ => false,
        }
    }
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

/// A name in a pointer as it stands in the body (RFC 6901, section 4).
fn unescaped(name: &str) -> String {
    name.replace("~1", "/").replace("~0", "~")
}
