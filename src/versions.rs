//! Versions of a phone's files in R2: put there when they are made, read by admins, removed when nothing lists them.
//!
//! What is kept of one is its text with masks in it and what it was made of ([`Body`]), under a name that is a keyed
//! hash of both: the same again is the same object. It is put before the device that lists it. If that put fails, the
//! version is not listed, and the phone gets its files all the same. A device that is never saved then leaves an
//! object that nothing lists; the next version that is made after one fell off the list clears those up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::gather::in_order;
use crate::json;
use crate::key;
use crate::mac::Mac;
use crate::ports::{Level, Objects, Only, World};
use crate::record::device::{DeviceState, FileSet};
use crate::record::version::{Snapshot, Version};
use crate::render::Ingredients;

/// The metadata of an object that says when it was put, in seconds since 1970.
const PUT_AT: &str = "at";

/// How long an object that nothing lists is left alone, in seconds: its device may be about to be saved.
const YOUNG_S: u64 = 3_600;

/// What R2 has of a version. No secret is in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// Each file by its neutral name, with masks in the place of secrets and the token, under the version 0.
    pub texts: BTreeMap<String, String>,
    /// What they were made of.
    pub snapshot: Snapshot,
}

/// A version that is to be listed.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    version: Version,
    /// [`Body`] as JSON; `None`: R2 has it already.
    body: Option<Vec<u8>>,
}

/// The version that new files are; `None` if they are those of a user who is logged in, or none that differ from
/// before. What cannot be kept is logged, and not listed.
#[must_use]
pub fn draft<W: World>(world: &W, made: &Ingredients, files: &FileSet) -> Option<Draft> {
    let before = made.device.state.files.as_ref();
    let same = before.is_some_and(|before| before.version == files.version);
    if same || files.sources.session.is_some() {
        return None;
    }
    let keys = world.keys();
    let body = || {
        let texts = made.masked_texts(keys, &files.sources.origin)?;
        let snapshot = made.snapshot();
        let body = serde_json::to_vec(&Body { texts, snapshot });
        let body = body.map_err(|_| Fault::Broken("version to json"))?;
        // A new key is no new version.
        let last = made.device.state.versions.last();
        let last = last.filter(|last| keys.made_etag(&body, &last.content));
        let content = match last {
            Some(last) => last.content.clone(),
            None => keys.etag(&body)?.trim_matches('"').to_owned(),
        };
        Ok((content, body))
    };
    let mut sources = files.sources.clone();
    for (record, rev) in &mut sources.records {
        if made.is_foreign(record) {
            *rev = 0;
        }
    }
    match body() {
        Ok((content, body)) => Some(Draft {
            version: Version {
                version: files.version,
                made_at: files.made_at,
                content,
                sources,
                same: Vec::new(),
            },
            body: Some(body),
        }),
        Err(fault) => {
            unkept(world, fault);
            None
        }
    }
}

/// The version that former files are which a phone gets back under a new number. `former`: their own.
#[must_use]
pub fn given_back(
    before: Option<&FileSet>,
    files: Option<&FileSet>,
    former: Option<u64>,
    state: &DeviceState,
) -> Option<Draft> {
    let (before, files, former) = (before?, files?, former?);
    if files.version == before.version {
        return None;
    }
    // Its text was made by templates that are not in this code any more.
    let kept = state.versions.iter().rev().find(|kept| kept.is(former))?;
    Some(Draft {
        version: Version {
            version: files.version,
            made_at: files.made_at,
            content: kept.content.clone(),
            sources: files.sources.clone(),
            same: Vec::new(),
        },
        body: None,
    })
}

fn unkept<W: World>(world: &W, fault: Fault) {
    world.log(Level::Warn, "version.unkept", &[("fault", fault.label())]);
}

/// Puts a version into R2 and lists it in the state of a device that is about to be saved. Never fails: files are
/// not held up by that.
pub async fn keep<W: World>(world: &W, mac: Mac, state: &mut DeviceState, draft: Draft) {
    if state.left_over {
        match clear_up(world, mac, state).await {
            Ok(()) => state.left_over = false,
            Err(fault) => {
                let fields = [("fault", fault.label())];
                world.log(Level::Warn, "version.left_over", &fields);
            }
        }
    }
    let Draft { version, body } = draft;
    if let Some(body) = body.filter(|_| !state.needs(&version.content)) {
        let key = key::version(mac, &version.content);
        let at = in_order([(PUT_AT.to_owned(), world.now().0.to_string())]);
        match world.r2().put(&key, body, at, Only::Always).await {
            // Throttled: somebody put the same within this second.
            Ok(_) | Err(Fault::Throttled) => {}
            Err(fault) => return unkept(world, fault),
        }
    }
    state.add_version(version, world.now());
}

/// Removes what no version of a device is in need of, but for what was put there just now.
async fn clear_up<W: World>(world: &W, mac: Mac, state: &DeviceState) -> Result<(), Fault> {
    let page = world.r2().list(&key::versions(mac), None, 1_000).await?;
    let now = world.now();
    let is_old = |metadata: &BTreeMap<String, String>| {
        let at = metadata.get(PUT_AT).and_then(|at| at.parse().ok());
        at.is_none_or(|at: u64| now.0.saturating_sub(at) >= YOUNG_S)
    };
    let entries = page.entries.into_iter();
    let old =
        entries.filter(|entry| !state.needs(key::last(&entry.key)) && is_old(&entry.metadata));
    let keys: Vec<String> = old.map(|entry| entry.key).collect();
    if keys.is_empty() {
        return Ok(());
    }
    world.r2().delete_many(&keys).await
}

/// What R2 has of a version; `None` if it is not there any more.
///
/// # Errors
/// The [`Fault`] of R2, or [`Fault::Broken`] for what is none of ours.
pub async fn read<W: World>(world: &W, mac: Mac, content: &str) -> Result<Option<Body>, Fault> {
    let object = world.r2().get(&key::version(mac, content)).await?;
    let body = object.map(|object| json::read(&object.body));
    body.transpose().map_err(|_| Fault::Broken("version"))
}

/// Removes all versions of a device that is gone: the next to have its MAC may be another tenant's.
///
/// # Errors
/// The [`Fault`] of R2.
pub async fn remove_all<W: World>(world: &W, mac: Mac) -> Result<(), Fault> {
    loop {
        let page = world.r2().list(&key::versions(mac), None, 1_000).await?;
        let keys: Vec<String> = page.entries.into_iter().map(|entry| entry.key).collect();
        if !keys.is_empty() {
            world.r2().delete_many(&keys).await?;
        }
        if page.cursor.is_none() {
            return Ok(());
        }
    }
}

/// Two versions of files as one unified diff, file by file, with three lines around each change. `names` stand
/// behind the files' names. The number of a version is not counted as a difference, since each has its own.
#[must_use]
pub fn diff(
    from: &BTreeMap<String, String>,
    to: &BTreeMap<String, String>,
    names: [&str; 2],
) -> String {
    let all: std::collections::BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    let mut diff = String::new();
    for name in all {
        let [before, after] = [from, to].map(|texts| texts.get(name).map_or("", String::as_str));
        unified::write(&mut diff, name, names, before, after);
    }
    diff
}

/// The unified format (POSIX, `diff -u`). The crate that finds the changes has a printer too; it counts the lines
/// before a first change wrongly.
mod unified {
    use std::fmt::Write as _;
    use std::ops::Range;

    use imara_diff::{Algorithm, Diff, Hunk, InternedInput};

    /// The lines that are shown around a change.
    const AROUND: usize = 3;

    /// A change, by lines from 0.
    struct Change {
        before: Range<usize>,
        after: Range<usize>,
    }

    impl Change {
        fn of(hunk: &Hunk) -> Self {
            let range = |range: &Range<u32>| {
                let [start, end] =
                    [range.start, range.end].map(|n| usize::try_from(n).unwrap_or(0));
                start..end
            };
            Self {
                before: range(&hunk.before),
                after: range(&hunk.after),
            }
        }
    }

    /// Writes the changes of one file, or nothing.
    pub(super) fn write(out: &mut String, name: &str, names: [&str; 2], before: &str, after: &str) {
        let input = InternedInput::new(before, after);
        // Not the smallest diff of texts that have little in common: the search is bounded by heuristics, as git's.
        let mut found = Diff::compute(Algorithm::Myers, &input);
        found.postprocess_no_heuristic(&input);
        let changes: Vec<Change> = found.hunks().map(|hunk| Change::of(&hunk)).collect();
        if changes.is_empty() {
            return;
        }
        let [old, new] = [before, after].map(|text| text.split_inclusive('\n').collect::<Vec<_>>());
        // Writing to a String cannot fail.
        let _ = writeln!(out, "--- a/{name} {}\n+++ b/{name} {}", names[0], names[1]);
        let near = |last: &Change, next: &Change| next.before.start - last.before.end <= 2 * AROUND;
        for group in changes.chunk_by(near) {
            let ([first, ..], [.., last]) = (group, group) else {
                continue;
            };
            let lead = first.before.start.min(AROUND);
            let tail = (old.len() - last.before.end).min(AROUND);
            let range = |start: usize, end: usize| {
                let (start, count) = (start - lead, end + tail - (start - lead));
                // Of no lines, the line before them is named.
                let first = if count == 0 { start } else { start + 1 };
                if count == 1 {
                    first.to_string()
                } else {
                    format!("{first},{count}")
                }
            };
            let _ = writeln!(
                out,
                "@@ -{} +{} @@",
                range(first.before.start, last.before.end),
                range(first.after.start, last.after.end)
            );
            let mut at = first.before.start - lead;
            for change in group {
                lines(out, ' ', &old, at..change.before.start);
                lines(out, '-', &old, change.before.clone());
                lines(out, '+', &new, change.after.clone());
                at = change.before.end;
            }
            lines(out, ' ', &old, at..at + tail);
        }
    }

    fn lines(out: &mut String, sign: char, all: &[&str], range: Range<usize>) {
        for line in all.get(range).unwrap_or_default() {
            out.push(sign);
            out.push_str(line);
            if !line.ends_with('\n') {
                out.push_str("\n\\ No newline at end of file\n");
            }
        }
    }
}
