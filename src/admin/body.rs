//! From a request's body to a record, and from a record to an answer's.

pub mod flaws;
mod wrong;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::problem::{FieldError, Kind, Problem};
use crate::json;
use crate::record::{Record, Stored};
use crate::request::Request;
use flaws::Flaws;

/// Members that every answer has and no record: a caller may send back what it got.
const READ_ONLY: [&str; 8] = [
    "id",
    "mac",
    "revision",
    "updated_at",
    "visible_by",
    "first_access",
    "provisioning_url",
    "warnings",
];

/// The type of a body without its parameters, as the request says it.
#[must_use]
pub fn essence(request: &Request) -> &str {
    let content_type = request.header("content-type");
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Whether a request says that its body is JSON.
#[must_use]
pub fn is_json(request: &Request) -> bool {
    let essence = essence(request);
    essence.eq_ignore_ascii_case("application/json")
        || essence.eq_ignore_ascii_case("application/merge-patch+json")
}

/// Reads a JSON object. An empty body is an empty object.
///
/// # Errors
/// A [`Problem`] if the body is not JSON, or JSON that is no object.
pub fn object(request: &Request) -> Result<Map<String, Value>, Problem> {
    if request.body.is_empty() {
        return Ok(Map::new());
    }
    // A body without a type is taken for JSON: what else could it be.
    if !is_json(request) && !request.header("content-type").is_empty() {
        return Err(Problem::new(
            Kind::UnsupportedMediaType,
            "use Content-Type: application/json",
        ));
    }
    object_of(&request.body, "the body")
}

/// Reads a JSON object that must be there: a record that is put without its body would be an empty one.
///
/// # Errors
/// A [`Problem`] as of [`object`], or if there is nothing.
pub fn given(request: &Request) -> Result<Map<String, Value>, Problem> {
    if request.body.is_empty() {
        return Err(Problem::new(Kind::BadJson, "there is no body"));
    }
    object(request)
}

/// Reads the JSON object that some bytes are; `what` they are called.
///
/// # Errors
/// A [`Problem`] if they are not JSON, or JSON that is no object.
pub fn object_of(bytes: &[u8], what: &str) -> Result<Map<String, Value>, Problem> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(Problem::new(
            Kind::BadJson,
            format!("{what} must be a JSON object"),
        )),
        Err(error) => Err(Problem::new(
            Kind::BadJson,
            format!("{what} is not JSON: {error}"),
        )),
    }
}

/// Refuses a body that says anything.
///
/// # Errors
/// A [`Problem`] as of [`object`], or that points at the first member.
pub fn nothing(request: &Request) -> Result<(), Problem> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    let Nothing {} = parse(object(request)?)?;
    Ok(())
}

/// Takes the members that are for reading only, those of every record and `own` ones. What is wrong with
/// them comes back: `id` must be the one in the path if it is there.
#[must_use]
pub fn without_read_only(
    members: &mut Map<String, Value>,
    own: &[&str],
    id: &str,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for name in READ_ONLY.iter().chain(own).copied() {
        let value = members.remove(name);
        let names_another = matches!(name, "id" | "mac")
            && value.is_some_and(|value| {
                let text = value.as_str().unwrap_or_default();
                // A MAC may be spelled in any way here too.
                text != id
                    && text
                        .parse::<crate::mac::Mac>()
                        .map(|m| m.to_string())
                        .ok()
                        .as_deref()
                        != Some(id)
            });
        if names_another {
            errors.push(FieldError::new(
                format!("/{name}"),
                "is not the one in the path",
            ));
        }
    }
    errors
}

/// Reads a value of checked types.
///
/// # Errors
/// A [`Problem`] that points at each field that is wrong, unknown or missing.
pub fn parse<T: DeserializeOwned>(members: Map<String, Value>) -> Result<T, Problem> {
    let members = Value::Object(members);
    first(&members).map_err(|flaw| wrong::all::<T>(members, flaw).1.problem())
}

/// Reads as much of a value as can be judged further. What is wrong stands in the [`Flaws`]; in the value it
/// is left out, or something is made up for it.
///
/// # Errors
/// A [`Problem`] as of [`parse`], if nothing of it can.
pub fn parse_on<T: DeserializeOwned>(members: Map<String, Value>) -> Result<(T, Flaws), Problem> {
    let members = Value::Object(members);
    let flaw = match first(&members) {
        Ok(value) => return Ok((value, Flaws::default())),
        Err(flaw) => flaw,
    };
    match wrong::all(members, flaw) {
        (Some(value), flaws) => Ok((value, flaws)),
        (None, flaws) => Err(flaws.problem()),
    }
}

/// What keeps a body from being a value: the first that its reader comes upon.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Flaw {
    /// Where.
    error: FieldError,
    /// Whether there should be something there.
    missing: bool,
}

/// Reads a value, or says what is first wrong with it.
fn first<T: DeserializeOwned>(members: &Value) -> Result<T, Flaw> {
    // From bytes and not from the value itself, so that there is one set of readers in the Worker:
    // the one that reads R2. A second set for a path-tracking deserializer is 100 KB of wasm.
    let bytes = members.to_string().into_bytes();
    json::read(&bytes).map_err(|error: serde_json::Error| flaw(&bytes, &error))
}

fn flaw(bytes: &[u8], error: &serde_json::Error) -> Flaw {
    let text = error.to_string();
    let detail = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(detail, _)| detail);
    let missing = detail
        .strip_prefix("missing field `")
        .and_then(|name| name.strip_suffix('`'));
    // One line, so that the column is how many bytes were read.
    let read = bytes.get(..error.column()).unwrap_or(bytes);
    let error = match missing {
        // serde names a missing field in words; the pointer should name it too.
        Some(name) => FieldError::new(format!("{}/{name}", pointer_at(read, false)), "is missing"),
        None => FieldError::new(pointer_at(read, true), detail),
    };
    Flaw {
        error,
        missing: missing.is_some(),
    }
}

/// The JSON pointer (RFC 6901) of the value or name that ends, or has just begun, where `read` ends.
/// `read` is the beginning of valid JSON in one line. `member`: where an object ends, its last
/// member is meant, since serde has read to the end before it says what it thinks of that; and where
/// it stops at the end of a list, the last element.
fn pointer_at(read: &[u8], member: bool) -> String {
    // Each open object or array, with the name or number of the member that is being read.
    let mut open: Vec<(bool, String, usize)> = Vec::new();
    let path = |open: &[(bool, String, usize)]| {
        open.iter()
            .fold(String::new(), |mut path, (object, name, index)| {
                path.push('/');
                if *object {
                    path.push_str(&name.replace('~', "~0").replace('/', "~1"));
                } else {
                    path.push_str(&index.to_string());
                }
                path
            })
    };
    let mut at = String::new();
    let mut bytes = read.iter().copied().enumerate();
    // Whether a string that begins now is the name of a member.
    let mut naming = false;
    while let Some((start, byte)) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                at = path(&open);
                naming = byte == b'{';
                open.push((naming, String::new(), 0));
            }
            b'}' | b']' => {
                let last = match open.split_last() {
                    // It has no member that could be meant.
                    Some(((true, name, _), outer)) if name.is_empty() => path(outer),
                    _ => path(&open),
                };
                open.pop();
                let stops = start + 1 == read.len() && !read.ends_with(b"[]");
                at = if member && (byte == b'}' || stops) {
                    last
                } else {
                    path(&open)
                };
            }
            b',' => match open.last_mut() {
                Some((true, ..)) => naming = true,
                Some((false, _, index)) => *index += 1,
                None => {}
            },
            b'"' => {
                let mut escaped = false;
                let end = bytes.find(|(_, byte)| {
                    let ends = *byte == b'"' && !escaped;
                    escaped = *byte == b'\\' && !escaped;
                    ends
                });
                if naming && let Some((end, _)) = end {
                    let name = read
                        .get(start..=end)
                        .and_then(|text| serde_json::from_slice(text).ok());
                    if let Some((_, slot, _)) = open.last_mut() {
                        *slot = name.unwrap_or_default();
                    }
                    naming = false;
                }
                at = path(&open);
            }
            b':' | b' ' => {}
            _ => at = path(&open),
        }
    }
    at
}

/// Applies a JSON merge patch (RFC 7396).
pub fn merge(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, value) in patch {
        match value {
            Value::Null => {
                target.remove(&name);
            }
            Value::Object(members) => {
                let slot = target.entry(name).or_insert(Value::Null);
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                if let Value::Object(inner) = slot {
                    merge(inner, members);
                }
            }
            other => {
                target.insert(name, other);
            }
        }
    }
}

/// Puts a null in the place of each member that a merge patch takes away, into what it was applied to: its reader
/// then says which of them there cannot be. Whether it takes any away.
pub fn name_removed(target: &mut Map<String, Value>, patch: &Map<String, Value>) -> bool {
    let mut any = false;
    for (name, value) in patch {
        match (value, target.get_mut(name)) {
            (Value::Null, _) => {
                target.insert(name.clone(), Value::Null);
                any = true;
            }
            (Value::Object(members), Some(Value::Object(inner))) => {
                any |= name_removed(inner, members);
            }
            _ => {}
        }
    }
    any
}

/// A record as the API shows it: its name, what the admin wrote without secrets, its revision.
#[must_use]
pub fn show<R: Record>(id: &str, stored: &Stored<R>) -> Map<String, Value> {
    let name = if R::KIND == crate::key::Kind::Device {
        "mac"
    } else {
        "id"
    };
    let mut shown = Map::new();
    shown.insert(name.to_owned(), id.into());
    // Records serialise to objects: they are structs with named fields.
    let written = serde_json::to_vec(&stored.record).unwrap_or_default();
    shown.extend(serde_json::from_slice::<Map<String, Value>>(&written).unwrap_or_default());
    shown.insert("revision".to_owned(), stored.edition.into());
    shown.insert(
        "updated_at".to_owned(),
        stored.updated_at.to_string().into(),
    );
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::device::Device;
    use serde_json::json;

    fn pointer_of(value: Value) -> String {
        let Value::Object(members) = value else {
            unreachable!()
        };
        let problem = parse::<Device>(members).unwrap_err();
        let body: Value = serde_json::from_slice(problem.respond_to("").body()).unwrap();
        body.pointer("/errors/0/pointer")
            .unwrap()
            .as_str()
            .unwrap()
            .to_owned()
    }

    #[test]
    fn the_pointer_names_the_field() {
        let base = json!({"tenant": "acme", "vendor": "yealink", "model": "T46U"});
        let with = |name: &str, value: Value| {
            let mut body = base.clone();
            body.as_object_mut().unwrap().insert(name.to_owned(), value);
            body
        };
        assert_eq!(
            pointer_of(json!({"vendor": "yealink", "model": "T46U"})),
            "/tenant"
        );
        assert_eq!(pointer_of(with("colour", json!("red"))), "/colour");
        assert_eq!(pointer_of(with("tenant", json!("A b"))), "/tenant");
        assert_eq!(
            pointer_of(with(
                "lines",
                json!([{"line": 1, "account": "a"}, {"line": "x"}])
            )),
            "/lines/1/line"
        );
        assert_eq!(
            pointer_of(with("buttons", json!([{"key": 1, "type": "warp"}]))),
            "/buttons/0/type"
        );
        assert_eq!(
            pointer_of(with("settings", json!({"timezone": "Mars/Base"}))),
            "/settings/timezone"
        );
        for (codecs, pointer) in [
            (json!(["mp3"]), "/settings/codecs/0"),
            (json!(["pcma", "mp3"]), "/settings/codecs/1"),
            (json!(["pcma", "mp3", "pcmu"]), "/settings/codecs/1"),
            (json!([]), "/settings/codecs"),
            (json!("pcma"), "/settings/codecs"),
        ] {
            let settings = json!({"codecs": codecs, "timezone": "UTC"});
            assert_eq!(pointer_of(with("settings", settings)), pointer);
            let settings = json!({ "codecs": codecs });
            assert_eq!(pointer_of(with("settings", settings)), pointer);
        }
        assert_eq!(
            pointer_of(with("lines", json!([{"line": 1}]))),
            "/lines/0/account"
        );
        assert_eq!(pointer_of(with("arm", json!("99d"))), "/arm");
    }

    #[test]
    fn a_merge_patch_is_that_of_the_rfc() {
        // The example of RFC 7396, section 3.
        let mut target = json!({
            "title": "Goodbye!", "author": {"givenName": "John", "familyName": "Doe"},
            "tags": ["example", "sample"], "content": "This will be unchanged",
        });
        let patch = json!({
            "title": "Hello!", "phoneNumber": "+01-123-456-7890",
            "author": {"familyName": null}, "tags": ["example"],
        });
        merge(
            target.as_object_mut().unwrap(),
            patch.as_object().unwrap().clone(),
        );
        assert_eq!(
            target,
            json!({
                "title": "Hello!", "author": {"givenName": "John"}, "tags": ["example"],
                "content": "This will be unchanged", "phoneNumber": "+01-123-456-7890",
            })
        );
    }
}
