//! The admin API, `/api/v1`: who may call it, and what is the same for all records.

mod accept;
pub mod access;
pub mod account;
pub mod audit;
pub mod batch;
pub mod body;
pub mod caller;
pub mod device;
pub mod explain;
pub mod filter;
pub mod managed;
pub mod models;
pub mod plan;
pub(crate) mod preview;
pub mod problem;
pub(crate) mod resync;
pub(crate) mod rollout;
pub mod route;
pub mod save;
pub mod session;
pub mod status;
pub mod token;
pub mod version;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, ETAG, HeaderValue, IF_NONE_MATCH};
use http::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::audit::Event;
use crate::cached::Batching;
use crate::fault::Fault;
use crate::key::{self, Kind};
use crate::mac::Mac;
use crate::ports::{Level, Limit, ObjectEntry, Objects, Page, World};
use crate::record::Stored;
use crate::record::account::Account;
use crate::record::device::Device;
use crate::record::pbx::Pbx;
use crate::record::profile::Profile;
use crate::record::rule::Rule;
use crate::record::tenant::Tenant;
use crate::record::token::Token;
use crate::request::{Afterwards, Answer, Request, respond};
use crate::serve::Place;
use crate::store;
use crate::text::Id;
use caller::{Caller, Role, foreign_tenant};
use filter::Filters;
use managed::Managed;
use problem::{Failure, Kind as ProblemKind, Problem};
use route::canonical;
use save::{Change, Context, Saved, etag};

/// How many records a page of a list has if the caller does not say.
const PAGE: u32 = 50;

/// The most that a page may have: each record is one read of R2, and a Worker has a budget.
const LARGEST_PAGE: u32 = 200;

/// How late KV may be with a change of a shared record, in seconds (Workers KV, "How KV works").
const VISIBLE_WITHIN_S: u64 = 60;

/// When the scheduled handler has finished a save that was cut off, in seconds.
const FINISHED_WITHIN_S: u64 = 2 * VISIBLE_WITHIN_S;

/// Answers a request to `/api/v1`.
pub async fn answer<W: Batching>(world: &W, place: &Place<'_>, request: &Request) -> Answer {
    let (answered, afterwards) = match admitted(world, place, request).await {
        Ok((caller, afterwards)) => {
            let context = Context {
                origin: request.origin(place.public_url),
                loopback: request.is_loopback(),
                caller,
            };
            (route::answer(world, &context, request).await, afterwards)
        }
        Err(failure) => (Err(failure), None),
    };
    let response = answered.unwrap_or_else(|failure| match failure {
        Failure::Problem(problem) => problem.respond_to(&request.id),
        Failure::Fault(fault) => problem_of(world, request, fault).respond_to(&request.id),
    });
    Answer {
        response,
        afterwards,
    }
}

/// Logs a fault of ours, and says that the call can be made again.
fn problem_of<W: World>(world: &W, request: &Request, fault: Fault) -> Problem {
    world.log(
        Level::Error,
        "admin.fault",
        &[("fault", fault.label()), ("path", &request.path)],
    );
    let kind = match fault {
        Fault::Throttled | Fault::Contended => ProblemKind::TooMany,
        Fault::Broken(_) => ProblemKind::Unavailable,
    };
    Problem::new(kind, "the same call can be made again in a moment")
}

/// Lets a caller in over a private connection that shows the admin token, an API token, or a JWT of
/// Cloudflare Access, and says what of that is to be noted.
async fn admitted<W: World>(
    world: &W,
    place: &Place<'_>,
    request: &Request,
) -> Result<(Caller, Option<Afterwards>), Failure> {
    if !request.is_private() {
        return Err(Problem::new(ProblemKind::Insecure, "use https").into());
    }
    let header = request.header(AUTHORIZATION.as_str());
    let text = match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => "",
    };
    if world.keys().is_admin(text) {
        return Ok((Caller::admin(), None));
    }
    // Before failures are counted: a good token is never refused for what others do at its source.
    if let Some(admitted) = token::caller(world, text).await? {
        return Ok(admitted);
    }
    // Whoever shows a token wants to be its holder, whatever a browser or proxy adds.
    let by_access = !request.headers.contains_key(AUTHORIZATION);
    if let Some(application) = place.access.filter(|_| by_access)
        && let Some(admitted) = access::caller(world, application, request).await?
    {
        return Ok(admitted);
    }
    let source = request.source.neighbourhood();
    if world.within(Limit::AdminFailures, &source).await {
        world.log(Level::Warn, "admin.unauthorized", &[("source", &source)]);
        Err(Problem::new(
            ProblemKind::Unauthorized,
            "send Authorization: Bearer <token>",
        )
        .into())
    } else {
        Err(Problem::new(ProblemKind::TooMany, "too many calls without a valid token").into())
    }
}

/// A JSON answer.
pub(crate) fn json(
    status: StatusCode,
    body: &impl serde::Serialize,
) -> Result<Response<Vec<u8>>, Failure> {
    let bytes = serde_json::to_vec(body).map_err(|_| Fault::Broken("answer to json"))?;
    Ok(respond(status, "application/json", bytes))
}

/// `GET|PUT|PATCH|DELETE` of one record.
async fn one<R: Managed, W: World>(
    world: &W,
    context: &Context,
    request: &Request,
    id: &str,
) -> Result<Response<Vec<u8>>, Failure> {
    let (mut secrets, mut force) = (false, false);
    match request.method {
        Method::GET | Method::HEAD => secrets = wants_secrets(context, request)?,
        Method::DELETE if R::FORCE => force = flag(request, "force")?,
        _ => no_parameters(request)?,
    }
    let change = match request.method {
        Method::GET | Method::HEAD => {
            let loaded = store::load::<R, W>(world, id).await?;
            let visible =
                |stored: &Stored<R>| stored.alive() && context.caller.sees(id, &stored.record);
            let Some(loaded) = loaded.filter(|loaded| visible(&loaded.stored)) else {
                return Err(save::not_found::<R>(id).into());
            };
            let tag = etag(&loaded.stored);
            let known = request.header(IF_NONE_MATCH.as_str());
            let mut response = if known
                .split(',')
                .map(str::trim)
                .any(|k| k == "*" || k.trim_start_matches("W/") == tag)
            {
                let mut response =
                    respond(StatusCode::NOT_MODIFIED, "application/json", Vec::new());
                response.headers_mut().remove(http::header::CONTENT_LENGTH);
                response
            } else {
                let mut shown = shown(id, &loaded.stored);
                if secrets {
                    note(world, context, "secrets.shown", id, &loaded.stored).await;
                    add_access(world, context, id, &loaded.stored, &mut shown)?;
                }
                json(StatusCode::OK, &shown)?
            };
            set_etag(&mut response, &tag)?;
            return Ok(response);
        }
        Method::DELETE => {
            let (deleted, users) = save::delete::<R, W>(world, context, request, id, force).await?;
            let mut event = event(world, context, "record.deleted", id, &deleted);
            if let Some(users) = users {
                let more = if users.more { ", and perhaps more" } else { "" };
                event = event.with("used_by", format!("{}{more}", users.found.join(", ")));
            }
            crate::audit::note(world, &event).await;
            let mut response = respond(StatusCode::NO_CONTENT, "application/json", Vec::new());
            response.headers_mut().remove(http::header::CONTENT_LENGTH);
            response.headers_mut().remove(http::header::CONTENT_TYPE);
            return Ok(response);
        }
        Method::PUT => Change::Put(body::given(request)?),
        Method::PATCH => Change::Patch(body::given(request)?),
        _ => return Err(Problem::method("GET, HEAD, PUT, PATCH, DELETE").into()),
    };
    let Saved {
        stored,
        created,
        followed_up,
        ..
    } = save::save::<R, W>(world, context, request, id, change).await?;
    let action = if created {
        "record.created"
    } else {
        "record.changed"
    };
    note(world, context, action, id, &stored).await;
    let mut shown = shown(id, &stored);
    let own = matches!(R::KIND, Kind::Device | Kind::Account | Kind::Token);
    if !own || !followed_up {
        // What R2 decides is there at once; what KV shows may be late, and what was cut off is
        // finished by the next scheduled run.
        let wait = if followed_up {
            VISIBLE_WITHIN_S
        } else {
            FINISHED_WITHIN_S
        };
        shown.insert(
            "visible_by".to_owned(),
            world.now().plus(wait).to_string().into(),
        );
    }
    if created {
        add_access(world, context, id, &stored, &mut shown)?;
    }
    let warnings = R::warnings(world, id, &stored).await?;
    if !warnings.is_empty() {
        let warnings = serde_json::to_value(warnings).map_err(|_| Fault::Broken("warnings"))?;
        shown.insert("warnings".to_owned(), warnings);
    }
    let status = if created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let mut response = json(status, &shown)?;
    set_etag(&mut response, &etag(&stored))?;
    Ok(response)
}

/// A record as answers show it, with what stands beside it.
fn shown<R: Managed>(id: &str, stored: &Stored<R>) -> Map<String, Value> {
    let mut shown = body::show(id, stored);
    R::add_beside(stored, &mut shown);
    shown
}

/// The only parameter that a call has: 1, or 0 as if it were not there.
fn flag(request: &Request, only: &str) -> Result<bool, Problem> {
    let mut wants = false;
    for (name, value) in parameters(request) {
        match value.as_str() {
            "1" if name == only => wants = true,
            "0" if name == only => wants = false,
            _ => {
                let detail = format!("the only parameter is {only}=0|1");
                return Err(Problem::new(ProblemKind::BadParameter, detail));
            }
        }
    }
    Ok(wants)
}

fn wants_secrets(context: &Context, request: &Request) -> Result<bool, Problem> {
    let wants = flag(request, "secrets")?;
    if wants {
        context.caller.needs(Role::Owner)?;
    }
    Ok(wants)
}

/// Adds to an answer what opens a device's files.
fn add_access<R: Managed, W: World>(
    world: &W,
    context: &Context,
    id: &str,
    stored: &Stored<R>,
    shown: &mut Map<String, Value>,
) -> Result<(), Failure> {
    let Some(access) = R::access(stored) else {
        return Ok(());
    };
    let mac: Mac = id.parse().map_err(|_| Fault::Broken("device id"))?;
    device::add_access(world, context, mac, access, shown)
}

/// Refuses any parameter: one that was misspelt must not pass for none.
fn no_parameters(request: &Request) -> Result<(), Problem> {
    match parameters(request).first() {
        None => Ok(()),
        Some((name, _)) => Err(Problem::new(
            ProblemKind::BadParameter,
            format!("there is no parameter {name}"),
        )),
    }
}

/// The parameters of the query.
pub(crate) fn parameters(request: &Request) -> Vec<(String, String)> {
    form_urlencoded::parse(request.query.as_bytes())
        .into_owned()
        .collect()
}

fn set_etag(response: &mut Response<Vec<u8>>, tag: &str) -> Result<(), Failure> {
    let value = HeaderValue::from_str(tag).map_err(|_| Fault::Broken("etag"))?;
    response.headers_mut().insert(ETAG, value);
    Ok(())
}

/// Writes down what was done to a record.
async fn note<R: Managed, W: World>(
    world: &W,
    context: &Context,
    action: &'static str,
    id: &str,
    stored: &Stored<R>,
) {
    let event = event(world, context, action, id, stored);
    crate::audit::note(world, &event).await;
}

/// What was done to a record, for the audit.
fn event<R: Managed, W: World>(
    world: &W,
    context: &Context,
    action: &'static str,
    id: &str,
    stored: &Stored<R>,
) -> Event {
    let resource = format!("{}/{id}", R::KIND.collection());
    let own = (R::KIND == Kind::Tenant).then(|| Id::try_from(id).ok());
    let own = own.flatten();
    let tenant = stored.record.tenant().or(own.as_ref());
    let event = Event::new(world, &context.caller.name, tenant, action, resource);
    event.with("edition", stored.edition.to_string())
}

/// What of a collection a caller wants to see.
struct Wanted {
    /// The only tenant; `None`: all of them.
    tenant: Option<Id>,
    limit: u32,
    /// The id after which it begins.
    after: Option<String>,
}

impl Wanted {
    /// Reads the query. A page has `usual` records if it does not say how many, and at most `most`;
    /// `own` reads a parameter that is the route's own, and says false of one that is none.
    fn of(
        context: &Context,
        request: &Request,
        kind: Kind,
        (usual, most): (u32, u32),
        mut own: impl FnMut(&str, &str) -> Result<bool, Problem>,
    ) -> Result<Self, Problem> {
        let bad = |detail: String| Problem::new(ProblemKind::BadParameter, detail);
        let mut wanted = Self {
            tenant: None,
            limit: usual,
            after: None,
        };
        for (name, value) in parameters(request) {
            match name.as_str() {
                "tenant" if kind != Kind::Tenant => {
                    let tenant =
                        Id::try_from(value).map_err(|wrong| bad(format!("tenant {wrong}")));
                    wanted.tenant = Some(tenant?);
                }
                "limit" => {
                    wanted.limit = value
                        .parse()
                        .ok()
                        .filter(|limit| (1..=most).contains(limit))
                        .ok_or_else(|| bad(format!("limit must be 1 to {most}")))?;
                }
                "cursor" => {
                    let id = id_in(kind, &value);
                    wanted.after =
                        Some(id.ok_or_else(|| bad("cursor is none of ours".to_owned()))?);
                }
                name if own(name, &value)? => {}
                _ => return Err(bad(format!("there is no parameter {name}"))),
            }
        }
        if let Some(own) = &context.caller.tenant {
            if wanted.tenant.is_some_and(|tenant| tenant != *own) {
                return Err(foreign_tenant());
            }
            wanted.tenant = Some(own.clone());
        }
        Ok(wanted)
    }

    /// What R2 lists.
    async fn page<W: World>(&self, world: &W, kind: Kind) -> Result<Page<ObjectEntry>, Fault> {
        let after = self.after.as_deref();
        self.listed(world, kind, after, self.limit).await
    }

    /// The next so many that R2 lists.
    async fn listed<W: World>(
        &self,
        world: &W,
        kind: Kind,
        after: Option<&str>,
        most: u32,
    ) -> Result<Page<ObjectEntry>, Fault> {
        let prefix = match &self.tenant {
            Some(tenant) => key::owned_by(tenant, Some(kind)),
            None => key::records(kind),
        };
        let from = after.map(|id| format!("{prefix}{id}"));
        world.r2().list(&prefix, from.as_deref(), most).await
    }
}

/// The cursor of a page whose last record this is, or would be: nothing that a caller should read, or make.
fn cursor_after(id: &str) -> String {
    URL_SAFE_NO_PAD.encode(id)
}

/// Reads what [`cursor_after`] made. The record need not be there any more.
fn id_in(kind: Kind, cursor: &str) -> Option<String> {
    let id = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    canonical(kind, &id)
        .ok()
        .filter(|canonical| *canonical == id)
}

/// A page of a collection.
async fn list<W: Batching>(
    world: &W,
    context: &Context,
    request: &Request,
    kind: Kind,
) -> Result<Response<Vec<u8>>, Failure> {
    let sizes = (PAGE, LARGEST_PAGE);
    let mut filters = Filters::default();
    let take = |name: &str, value: &str| filters.take(kind, name, value);
    let wanted = Wanted::of(context, request, kind, sizes, take)?;
    if let Some(own) = context
        .caller
        .tenant
        .as_ref()
        .filter(|_| kind == Kind::Tenant)
    {
        // It is on no list of what a tenant has.
        let own = own.as_str();
        let items = if wanted.after.is_some_and(|after| after.as_str() >= own) {
            None
        } else {
            item::<Tenant, W>(world, own, None).await?
        };
        let passes = |item: &Map<String, Value>| filters.pass(own, item);
        let items: Vec<_> = items.into_iter().filter(passes).collect();
        return json(StatusCode::OK, &json!({ "items": items }));
    }
    let (items, last) = if filters.is_empty() {
        let page = wanted.page(world, kind).await?;
        let mut items = Vec::new();
        for entry in &page.entries {
            if entry.metadata.contains_key("gone") {
                continue;
            }
            let id = key::last(&entry.key);
            items.extend(any_item(world, kind, id, wanted.tenant.as_ref()).await?);
        }
        let last = page.cursor.map(|cursor| key::last(&cursor).to_owned());
        (items, last)
    } else {
        Box::pin(filter::page(world, kind, &wanted, &filters)).await?
    };
    let mut body = json!({ "items": items });
    if let (Some(last), Value::Object(members)) = (last, &mut body) {
        members.insert("cursor".to_owned(), cursor_after(&last).into());
    }
    json(StatusCode::OK, &body)
}

/// A record of any kind as answers show it, unless it is gone or another tenant's.
async fn any_item<W: World>(
    world: &W,
    kind: Kind,
    id: &str,
    tenant: Option<&Id>,
) -> Result<Option<Map<String, Value>>, Fault> {
    match kind {
        Kind::Tenant => item::<Tenant, W>(world, id, tenant).await,
        Kind::Profile => item::<Profile, W>(world, id, tenant).await,
        Kind::Pbx => item::<Pbx, W>(world, id, tenant).await,
        Kind::Account => item::<Account, W>(world, id, tenant).await,
        Kind::Device => item::<Device, W>(world, id, tenant).await,
        Kind::Rule => item::<Rule, W>(world, id, tenant).await,
        Kind::Token => item::<Token, W>(world, id, tenant).await,
    }
}

async fn item<R: Managed, W: World>(
    world: &W,
    id: &str,
    tenant: Option<&Id>,
) -> Result<Option<Map<String, Value>>, Fault> {
    let stored = alive::<R, W>(world, id, tenant).await?;
    Ok(stored.map(|stored| shown(id, &stored)))
}

/// A record that is listed, unless it is gone or another tenant's.
async fn alive<R: Managed, W: World>(
    world: &W,
    id: &str,
    tenant: Option<&Id>,
) -> Result<Option<Stored<R>>, Fault> {
    let loaded = store::load::<R, W>(world, id).await?;
    // The list of a tenant may be older than the record.
    let wanted = |stored: &Stored<R>| {
        stored.alive() && tenant.is_none_or(|tenant| stored.record.tenant() == Some(tenant))
    };
    Ok(loaded
        .map(|loaded| loaded.stored)
        .filter(|stored| wanted(stored)))
}
