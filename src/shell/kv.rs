//! Workers KV behind [`Mappings`].

use worker::kv::{KvError, KvStore};

use crate::fault::Fault;
use crate::ports::{MappingEntry, Mappings, Page};

/// The binding `DEVICES`.
pub struct Devices(pub KvStore);

/// KV says only in words that it was written too often (Workers KV, "Write key-value pairs").
fn fault(error: &KvError) -> Fault {
    if error.to_string().contains("429") {
        Fault::Throttled
    } else {
        Fault::Broken("kv")
    }
}

impl Mappings for Devices {
    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<String>>, Fault> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut found = self.0.get_bulk(keys).text().await.map_err(|e| fault(&e))?;
        Ok(keys.iter().map(|key| found.remove(key).flatten()).collect())
    }

    async fn put(
        &self,
        key: &str,
        value: &str,
        metadata: Option<&str>,
        keep_s: Option<u64>,
    ) -> Result<(), Fault> {
        let mut put = self.0.put(key, value).map_err(|e| fault(&e))?;
        if let Some(metadata) = metadata {
            let value: serde_json::Value =
                serde_json::from_str(metadata).map_err(|_| Fault::Broken("kv metadata"))?;
            put = put.metadata(value).map_err(|e| fault(&e))?;
        }
        if let Some(seconds) = keep_s {
            put = put.expiration_ttl(seconds);
        }
        put.execute().await.map_err(|e| fault(&e))
    }

    async fn list(&self, prefix: &str, cursor: Option<&str>) -> Result<Page<MappingEntry>, Fault> {
        let mut list = self.0.list().prefix(prefix.to_owned());
        if let Some(cursor) = cursor {
            list = list.cursor(cursor.to_owned());
        }
        let page = list.execute().await.map_err(|e| fault(&e))?;
        Ok(Page {
            entries: page
                .keys
                .into_iter()
                .map(|key| MappingEntry {
                    key: key.name,
                    metadata: key.metadata.map(|json| json.to_string()),
                })
                .collect(),
            cursor: page.cursor.filter(|_| !page.list_complete),
        })
    }
}
