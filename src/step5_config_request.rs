//! **Step 5, ACC and BTN are asked for.** Are the files that R2 has still true, and does the phone
//! have them already?
//!
//! In: what the files were made of, and what KV knows of the same records. Out: whether they must
//! be made again, and the answer to a conditional request. Something older in KV is never a reason.

use http::HeaderMap;
use http::header::IF_NONE_MATCH;

use crate::record::device::{FileSet, Sources};

/// Whether files made of `sources` are older than what is known: the device itself, the code, the
/// place they are served from, the key that signs their URLs, who is logged in, the version that they are held to, and
/// `known` revisions of the shared records by key.
#[must_use]
pub fn stale(files: Option<&FileSet>, device: &Sources, known: &[(String, u64)]) -> bool {
    let Some(files) = files else { return true };
    let made = &files.sources;
    made.templates < device.templates
        || made.origin != device.origin
        || made.device < device.device
        || made.token != device.token
        || made.key != device.key
        || made.session != device.session
        || made.pinned != device.pinned
        || known
            .iter()
            .any(|(key, rev)| made.records.get(key).is_none_or(|made| made < rev))
}

/// Whether `If-None-Match` names this entity tag (RFC 9110, 13.1.2: weak comparison).
#[must_use]
pub fn has_it(headers: &HeaderMap, etag: &str) -> bool {
    headers.get_all(IF_NONE_MATCH).iter().any(|value| {
        value.to_str().is_ok_and(|list| {
            list.split(',')
                .map(str::trim)
                .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyId;
    use std::collections::BTreeMap;

    fn sources(templates: u32, device: u64, tenant: u64) -> Sources {
        Sources {
            templates,
            origin: "https://a".to_owned(),
            device,
            token: 1,
            key: None,
            session: None,
            pinned: None,
            records: BTreeMap::from([("tenant/acme".to_owned(), tenant)]),
        }
    }

    #[test]
    fn only_something_newer_makes_files_stale() {
        let files = FileSet {
            sources: sources(2, 5, 7),
            ..FileSet::default()
        };
        let now = sources(2, 5, 0);
        let known = |rev| vec![("tenant/acme".to_owned(), rev)];
        assert!(!stale(Some(&files), &now, &known(7)));
        assert!(!stale(Some(&files), &now, &known(6)), "KV is late");
        assert!(!stale(Some(&files), &now, &[]), "KV has nothing");
        assert!(stale(Some(&files), &now, &known(8)));
        assert!(stale(Some(&files), &sources(3, 5, 0), &[]));
        assert!(
            !stale(Some(&files), &sources(1, 5, 0), &[]),
            "an older deployment"
        );
        assert!(stale(Some(&files), &sources(2, 6, 0), &[]));
        assert!(stale(None, &now, &[]));
        let key = KeyId::try_from("3f00000000000001".to_owned()).ok();
        let other_key = Sources { key, ..now.clone() };
        assert!(stale(Some(&files), &other_key, &[]));
        let session = Some("0123456789abcdef".to_owned());
        assert!(stale(
            Some(&files),
            &Sources {
                session,
                ..now.clone()
            },
            &[]
        ));
        let pinned = Some(3);
        assert!(stale(Some(&files), &Sources { pinned, ..now }, &[]));
    }

    #[test]
    fn an_entity_tag_is_compared_weakly() {
        let has = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, value.parse().unwrap());
            has_it(&headers, "\"a\"")
        };
        assert!(has("\"a\"") && has("W/\"a\"") && has("\"b\", \"a\"") && has("*"));
        assert!(!has("\"b\"") && !has("a") && !has(""));
    }
}
