//! `GET /devices/export` and `GET /accounts/export`: records as a batch takes them, page by page.
//!
//! From R2, so that it is what was saved last. Without a secret: a batch that is sent one keeps those
//! that are stored.

use futures_util::future::try_join_all;
use http::header::LINK;
use http::{HeaderValue, Response, StatusCode};
use serde_json::Value;

use super::{AT_ONCE, Format, csv};
use crate::admin::managed::Managed;
use crate::admin::problem::{Failure, Kind as ProblemKind, Problem};
use crate::admin::save::Context;
use crate::admin::{Wanted, alive, body, cursor_after};
use crate::fault::Fault;
use crate::key;
use crate::ports::World;
use crate::record::Stored;
use crate::request::{Request, respond};

/// How many records a page has at most, and if the caller does not say: each is a read of R2.
const PAGE: u32 = 500;

/// Writes a page. If more follow, `Link` names the next one (RFC 8288, `rel="next"`). Each page of CSV
/// begins with the same header line.
///
/// # Errors
/// A [`Failure`] of a parameter, or of the store.
pub async fn run<R: Managed, W: World>(
    world: &W,
    context: &Context,
    request: &Request,
) -> Result<Response<Vec<u8>>, Failure> {
    let mut format = Format::Ndjson;
    let wanted = Wanted::of(context, request, R::KIND, (PAGE, PAGE), |name, value| {
        if name != "format" {
            return Ok(false);
        }
        format = Format::ALL
            .into_iter()
            .find(|format| format.name() == value)
            .ok_or_else(|| {
                Problem::new(ProblemKind::BadParameter, "format must be ndjson or csv")
            })?;
        Ok(true)
    })?;
    let page = wanted.page(world, R::KIND).await?;
    let mut text = match format {
        Format::Ndjson => String::new(),
        Format::Csv => csv::header(R::KIND),
    };
    for some in page.entries.chunks(AT_ONCE) {
        let loads = some.iter().map(|entry| async {
            let id = key::last(&entry.key);
            if entry.metadata.contains_key("gone") {
                return Ok(None);
            }
            let stored = alive::<R, W>(world, id, wanted.tenant.as_ref()).await?;
            stored.map(|stored| line(format, id, &stored)).transpose()
        });
        let lines: Vec<Option<String>> = try_join_all(loads).await?;
        text.extend(lines.into_iter().flatten());
    }
    let mut response = respond(StatusCode::OK, format.content_type(), text.into_bytes());
    if let Some(cursor) = page.cursor {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("format", format.name());
        if let Some(tenant) = &wanted.tenant {
            query.append_pair("tenant", tenant.as_str());
        }
        query.append_pair("limit", &wanted.limit.to_string());
        query.append_pair("cursor", &cursor_after(key::last(&cursor)));
        let link = format!("<{}?{}>; rel=\"next\"", request.path, query.finish());
        let link = HeaderValue::from_str(&link).map_err(|_| Fault::Broken("link"))?;
        response.headers_mut().insert(LINK, link);
    }
    Ok(response)
}

/// A record as a line, without what is for reading only.
fn line<R: Managed>(format: Format, id: &str, stored: &Stored<R>) -> Result<String, Fault> {
    let mut members = body::show(id, stored);
    members.remove("revision");
    members.remove("updated_at");
    match format {
        Format::Ndjson => {
            let mut line = Value::Object(members).to_string();
            line.push('\n');
            Ok(line)
        }
        Format::Csv => csv::line(R::KIND, members),
    }
}
