//! `POST /explain`: what would become of a phone's request, and why. It runs the phone's own path
//! ([`crate::serve`]) up to where that would write something.

use std::collections::BTreeMap;
use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::body;
use super::problem::{Failure, FieldError, Problem};
use super::save::Context;
use super::version::Pin;
use crate::fault::Fault;
use crate::ident::{self, Identity};
use crate::keys::Capability;
use crate::levels::Origin;
use crate::mac::Mac;
use crate::ports::World;
use crate::record::Stored;
use crate::record::device::Device;
use crate::render::{From, Ingredients};
use crate::request::Request;
use crate::secret::MASK;
use crate::serve::{self, Considered, Fate, Outcome, Question};
use crate::step2_redirect::{self, Case, Chosen, NamedRule, Placeholders, Source, Weighed, Why};
use crate::step3_boot_request::Part;
use crate::store;
use crate::text::{Country, Id};
use crate::vendor::{self, Objection};

/// A phone's request as an admin describes it. Everything is optional.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "PhoneRequest"))]
#[serde(deny_unknown_fields)]
pub(crate) struct Described {
    /// `mac=` of the query, in any spelling.
    mac: Option<String>,
    /// `serial=` of the query.
    serial: Option<String>,
    /// The header `User-Agent`.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("pattern" = HEADER_VALUE)))]
    user_agent: Option<String>,
    /// The header `Accept`.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(extend("pattern" = HEADER_VALUE)))]
    accept: Option<String>,
    /// The path, with a query if it has one: ASCII, percent-encoded. Default `/rps`.
    #[cfg_attr(
        not(target_arch = "wasm32"),
        schemars(extend("pattern" = "^/[\\u0000-\\u007f]*$", "maxLength" = LONGEST_PATH))
    )]
    path: Option<String>,
    /// False: by plain http. Default true.
    https: Option<bool>,
    /// The source address.
    ip: Option<IpAddr>,
    /// The country that the platform would say.
    country: Option<Country>,
    /// The continent.
    continent: Option<Country>,
    /// The autonomous system.
    asn: Option<u32>,
    /// The subject of a client certificate that the platform verified.
    certificate: Option<String>,
}

/// What a header's value looks like (RFC 9110, 5.5), of characters.
#[cfg(not(target_arch = "wasm32"))]
const HEADER_VALUE: &str = "^[^\\u0000-\\u0008\\u000a-\\u001f\\u007f]*$";

/// The longest path of a request (Workers limits, "URL").
const LONGEST_PATH: usize = 16_384;

impl Described {
    /// The request.
    fn request(self, context: &Context) -> Result<Request, Problem> {
        let mut errors = Vec::new();
        let mut headers = HeaderMap::new();
        for (pointer, name, text) in [
            ("/user_agent", http::header::USER_AGENT, self.user_agent),
            ("/accept", http::header::ACCEPT, self.accept),
        ] {
            match HeaderValue::try_from(text.unwrap_or_default()) {
                Ok(value) => drop(headers.insert(name, value)),
                Err(_) => errors.push(FieldError::new(pointer, "is no value of a header")),
            }
        }
        let path = self.path.unwrap_or_else(|| "/rps".to_owned());
        if !path.starts_with('/') || path.len() > LONGEST_PATH || !path.is_ascii() {
            let detail = "must begin with / and be ASCII, percent-encoded, of at most 16,384 bytes";
            errors.push(FieldError::new("/path", detail));
        }
        if !errors.is_empty() {
            return Err(Problem::invalid(errors));
        }
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        let mut pairs = form_urlencoded::Serializer::new(query.to_owned());
        for (name, value) in [("mac", self.mac), ("serial", self.serial)] {
            if let Some(value) = value {
                pairs.append_pair(name, &value);
            }
        }
        let text = |code: Option<Country>| code.map(|code| code.as_str().to_owned());
        let host = context.origin.split_once("://").map(|(_, host)| host);
        Ok(Request {
            id: String::new(),
            method: Method::GET,
            https: self.https.unwrap_or(true),
            host: host.unwrap_or_default().to_owned(),
            path: path.to_owned(),
            query: pairs.finish(),
            headers,
            body: Vec::new(),
            source: Source {
                address: self.ip.map(|ip| ip.to_string()).unwrap_or_default(),
                country: text(self.country),
                continent: text(self.continent),
                asn: self.asn,
                certificate: self.certificate.filter(|subject| !subject.is_empty()),
            },
        })
    }
}

/// What becomes of a request.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "Explanation"))]
pub(crate) struct Explained {
    /// Who the phone says it is, and where each of that comes from.
    identified: Identity,
    /// Each rule that may decide the URL, and why it does or does not.
    rules: Vec<ShownRule>,
    /// Each proof, and why it holds or does not.
    proofs: Vec<Weighed>,
    /// What is decided.
    decision: Decision,
    /// Why, in words.
    reason: &'static str,
    /// The HTTP status that the phone would get, but for limits.
    status: u16,
    /// Where it would be sent, without the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// What it would ask for there.
    #[serde(skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
    /// The files of the device.
    files: Vec<ShownFile>,
    /// The settings in them that any level says something of, and where each comes from.
    settings: BTreeMap<&'static str, Origin>,
    /// What its record refers to that is not there, and is left out of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<Objection>,
    /// The revisions of the shared records that they are made of.
    made_of: Map<String, Value>,
    /// The version that they are held to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned: Option<Pin>,
}

/// What is decided.
#[derive(Debug, Clone, Copy, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(crate) enum Decision {
    /// It is told where its files are.
    Redirected,
    /// The same, and it would use up the window.
    ClaimsWindow,
    /// It gets a file that is the same for everybody.
    Common,
    /// It gets its file.
    Served,
    /// It is told to come back later.
    Later,
    /// It gets the uniform 404.
    Refused,
}

/// A rule that may decide the URL.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "WeighedRule"))]
pub(crate) struct ShownRule {
    /// The rule.
    id: Id,
    /// Where it sends.
    url: String,
    /// Its priority.
    priority: i32,
    /// How many fields match; absent if one does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<usize>,
    /// The first field that does not match.
    #[serde(skip_serializing_if = "Option::is_none")]
    differs: Option<&'static str>,
    /// Whether it is the one that decides.
    chosen: bool,
}

/// A file of the device.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[cfg_attr(not(target_arch = "wasm32"), schemars(rename = "ExplainedFile"))]
pub(crate) struct ShownFile {
    /// What it is called here.
    name: &'static str,
    /// The `Content-Type` that the phone gets.
    content_type: &'static str,
}

impl Explained {
    fn refused(identified: Identity, reason: &'static str) -> Self {
        Self {
            identified,
            rules: Vec::new(),
            proofs: Vec::new(),
            decision: Decision::Refused,
            reason,
            status: 404,
            url: None,
            boot: None,
            files: Vec::new(),
            settings: BTreeMap::new(),
            warnings: Vec::new(),
            made_of: Map::new(),
            pinned: None,
        }
    }
}

/// Explains a request.
///
/// # Errors
/// A [`Failure`] for a body that describes none, or of the stores.
pub async fn explain<W: World>(
    world: &W,
    context: &Context,
    request: &Request,
) -> Result<Response<Vec<u8>>, Failure> {
    let described: Described = body::parse(body::object(request)?)?;
    let request = described.request(context)?;
    let identified = ident::identify(
        &request.path,
        &request.query,
        request.header("user-agent"),
        request.source.certificate.as_deref().unwrap_or_default(),
    );
    let explained = match request.path.strip_prefix("/p/") {
        Some(rest) => provisioning(world, context, &request, identified, rest).await?,
        None => rps(world, context, &request, identified).await?,
    };
    super::json(StatusCode::OK, &explained)
}

/// Whether a device is there for whoever asks.
fn is_seen(context: &Context, device: &Stored<Device>) -> bool {
    let tenant = context.caller.tenant.as_ref();
    device.alive() && tenant.is_none_or(|tenant| *tenant == device.record.tenant)
}

async fn rps<W: World>(
    world: &W,
    context: &Context,
    request: &Request,
    identified: Identity,
) -> Result<Explained, Failure> {
    let Some(question) = Question::read(world.keys(), request)? else {
        let reason = "no phone asks for such a path";
        return Ok(Explained::refused(identified, reason));
    };
    let mut explained = Explained::refused(identified, Why::Unknown.label());
    let common = question.common(&context.origin, request)?.is_some();
    if question.optional {
        explained.reason = "phones can do without this file";
        return Ok(explained);
    }
    if common {
        explained.decision = Decision::Common;
        explained.reason = "the file is the same for everybody";
        explained.status = 200;
    }
    let Some(mac) = question.ask.mac else {
        return Ok(explained);
    };
    let origin = &context.origin;
    let Considered { known, outcome } =
        serve::consider(world, origin, request, &question, mac).await?;
    let Some(device) = known.device.map(|device| device.stored) else {
        return Ok(explained);
    };
    if !is_seen(context, &device) {
        return Ok(explained);
    }
    let case = Case {
        ask: &question.ask,
        key: question.key,
        device: &device,
        policy: &known.policy,
        source: &request.source,
        now: world.now(),
    };
    explained.proofs = case.proofs().to_vec();
    (explained.decision, explained.reason, explained.status) = match outcome {
        Outcome::LetIn(response, proof, claim) => {
            let decision = match claim {
                Some(_) => Decision::ClaimsWindow,
                None => Decision::Redirected,
            };
            let weighed = case.proofs().into_iter();
            let because = weighed.filter(|weighed| weighed.proof == proof);
            let because = because.map(|weighed| weighed.because).next();
            (
                decision,
                because.unwrap_or_default(),
                response.status().as_u16(),
            )
        }
        Outcome::Refused(_) if common => (explained.decision, explained.reason, 200),
        Outcome::Refused(why) => (Decision::Refused, why.label(), 404),
    };
    ways(
        &mut explained,
        context,
        mac,
        &device,
        &known.rules,
        &request.source,
    )?;
    files(&mut explained, world, mac, device).await?;
    Ok(explained)
}

/// Adds where the device is sent, and by which rule.
fn ways(
    explained: &mut Explained,
    context: &Context,
    mac: Mac,
    device: &Stored<Device>,
    rules: &[NamedRule],
    source: &Source,
) -> Result<(), Fault> {
    let device = &device.record;
    let chosen = step2_redirect::choose(device, rules, source);
    let shown = |named: &NamedRule| {
        let matches = step2_redirect::specificity(&named.rule, device, source);
        ShownRule {
            id: named.id.clone(),
            url: named.rule.url.as_str().to_owned(),
            priority: named.rule.priority,
            fields: matches.ok(),
            differs: matches.err(),
            chosen: matches!(chosen, Chosen::Rule(rule) if rule.id == named.id),
        }
    };
    explained.rules = rules.iter().map(shown).collect();
    let ours = format!("{}/p/{MASK}/", context.origin);
    explained.url = Some(chosen.fill(Placeholders {
        ours: &ours,
        token: MASK,
        device,
        mac,
    }));
    let model = vendor::model(device.vendor, &device.model)
        .ok_or(Fault::Broken("model not in catalogue"))?;
    explained.boot = Some(device.vendor.rules().boot_name(mac, model));
    Ok(())
}

async fn provisioning<W: World>(
    world: &W,
    context: &Context,
    request: &Request,
    identified: Identity,
    rest: &str,
) -> Result<Explained, Failure> {
    let token = rest.split_once('/').map_or(rest, |(token, _)| token);
    let mut explained = Explained::refused(identified, Fate::Forged.label());
    let Some(signed) = world.keys().verify(Capability::Token, token) else {
        return Ok(explained);
    };
    let mac = signed.mac;
    let device = store::load::<Device, W>(world, &mac.to_string()).await?;
    let Some(device) = device.map(|device| device.stored) else {
        return Ok(explained);
    };
    if !is_seen(context, &device) {
        return Ok(explained);
    }
    let (answer, fate) = serve::provision(world, &context.origin, request, rest).await?;
    explained.reason = fate.label();
    explained.status = answer.response.status().as_u16();
    explained.decision = match fate {
        Fate::Served(_) => Decision::Served,
        Fate::Moved => Decision::Later,
        _ if answer.response.status().is_success() => Decision::Served,
        _ => Decision::Refused,
    };
    files(&mut explained, world, mac, device).await?;
    Ok(explained)
}

/// Adds the device's files, and what they are made of.
async fn files<W: World>(
    explained: &mut Explained,
    world: &W,
    mac: Mac,
    device: Stored<Device>,
) -> Result<(), Fault> {
    let rules = device.record.vendor.rules();
    let model = vendor::model(device.record.vendor, &device.record.model)
        .ok_or(Fault::Broken("model not in catalogue"))?;
    let shown = |part: &Part| ShownFile {
        name: part.neutral_name(),
        content_type: rules.content_type(*part),
    };
    explained.files = rules.parts(model).iter().map(shown).collect();
    let made = Ingredients::gather(world, mac, device, From::R2).await?;
    explained.pinned = Pin::of(&made.device.state);
    explained.settings = made.origins()?.settings;
    explained.warnings = made.missing();
    explained.settings.retain(|_, origin| origin.is_said());
    for (record, rev) in made.sources(world.keys(), "").records {
        let rev = if made.is_foreign(&record) { 0 } else { rev };
        explained.made_of.insert(record, rev.into());
    }
    Ok(())
}
