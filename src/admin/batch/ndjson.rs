//! NDJSON: one JSON object in each line, which LF or CRLF ends. Empty lines count and say nothing.

use super::{LONGEST_LINE, Parsed, too_long};
use crate::admin::body;

/// Reads the lines of a body one after another.
pub fn read(body: &[u8]) -> impl Iterator<Item = Parsed> + '_ {
    (1..)
        .zip(body.split(|byte| *byte == b'\n'))
        .map(|(number, line)| (number, line.trim_ascii()))
        .filter(|(_, line)| !line.is_empty())
        .map(|(number, line)| Parsed {
            number,
            members: if line.len() > LONGEST_LINE {
                Err(too_long())
            } else {
                body::object_of(line, "the line")
            },
        })
}
