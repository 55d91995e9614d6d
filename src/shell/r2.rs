//! R2 behind [`Objects`].

use std::collections::HashMap;

use worker::{Bucket, Conditional, Include};

use crate::fault::Fault;
use crate::gather::in_order;
use crate::ports::{Object, ObjectEntry, Objects, Only, Page};
use std::collections::BTreeMap;

/// The binding `FILES`.
pub struct Files(pub Bucket);

/// R2 says only in words that one object was written too often (R2 limits: once a second; error
/// 10058 of its error codes).
fn fault(error: &worker::Error) -> Fault {
    let text = error.to_string();
    if text.contains("10058") || text.contains("429") {
        Fault::Throttled
    } else {
        Fault::Broken("r2")
    }
}

impl Objects for Files {
    async fn get(&self, key: &str) -> Result<Option<Object>, Fault> {
        let Some(object) = self.0.get(key).execute().await.map_err(|e| fault(&e))? else {
            return Ok(None);
        };
        let etag = object.etag();
        let body = match object.body() {
            Some(body) => body.bytes().await.map_err(|e| fault(&e))?,
            None => return Err(Fault::Broken("r2 body")),
        };
        Ok(Some(Object { body, etag }))
    }

    async fn put(
        &self,
        key: &str,
        body: Vec<u8>,
        metadata: BTreeMap<String, String>,
        only: Only<'_>,
    ) -> Result<Option<String>, Fault> {
        let mut put = self
            .0
            .put(key, body)
            .custom_metadata(metadata.into_iter().collect::<HashMap<_, _>>());
        let condition = |etag_matches, etag_does_not_match| Conditional {
            etag_matches,
            etag_does_not_match,
            uploaded_before: None,
            uploaded_after: None,
        };
        match only {
            Only::Always => {}
            Only::Absent => put = put.only_if(condition(None, Some("*".to_owned()))),
            Only::Version(etag) => put = put.only_if(condition(Some(etag.to_owned()), None)),
        }
        let put = put.execute().await.map_err(|e| fault(&e))?;
        Ok(put.map(|object| object.etag()))
    }

    async fn delete(&self, key: &str) -> Result<(), Fault> {
        self.0.delete(key).await.map_err(|e| fault(&e))
    }

    async fn delete_many(&self, keys: &[String]) -> Result<(), Fault> {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        self.0.delete_multiple(keys).await.map_err(|e| fault(&e))
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<ObjectEntry>, Fault> {
        let mut list = self
            .0
            .list()
            .prefix(prefix)
            .limit(limit)
            .include(vec![Include::CustomMetadata]);
        if let Some(after) = after {
            list = list.start_after(after);
        }
        let page = list.execute().await.map_err(|e| fault(&e))?;
        let mut entries = Vec::new();
        for object in page.objects() {
            let metadata = object.custom_metadata().map_err(|e| fault(&e))?;
            entries.push(ObjectEntry {
                key: object.key(),
                metadata: in_order(metadata),
            });
        }
        let cursor = if page.truncated() {
            entries.last().map(|entry| entry.key.clone())
        } else {
            None
        };
        Ok(Page { entries, cursor })
    }
}
