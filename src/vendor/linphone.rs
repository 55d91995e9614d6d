//! Linphone: one XML document, fetched from the `config-uri` that the document before it set.
//!
//! Source: Linphone's "Remote provisioning" page and lpconfig.xsd; what linphonec 5.1 makes of it
//! was seen by experiment. It fetches at start only, and goes to a new `config-uri` at its next.

use askama::Template;

use super::{Document, Model, Objection, Redirect, Vendor, write};
use crate::fault::Fault;
use crate::mac::Mac;
use crate::record::pbx::Srtp;
use crate::step3_boot_request::Part;
use crate::step4_boot_file::Phone;
use crate::step6_config_files::{PhoneLine, uri_host};
use crate::step7_register::ha1;

/// The vendor.
pub struct Linphone;

const XML: &str = "application/xml; charset=utf-8";

/// A soft phone has no keys that a server could set.
static MODELS: [Model; 1] = [Model {
    name: "Linphone",
    lines: 4,
    keys: 0,
    modules: 0,
    module_keys: 0,
    code: None,
}];

/// A `config` document of some of the parts.
#[derive(Template)]
#[template(path = "linphone/config.xml")]
struct Config<'a> {
    boot: Option<Boot<'a>>,
    acc: Option<Acc>,
    btn: bool,
}

/// What the BootFile says: where the whole configuration is, and what the device is.
struct Boot<'a> {
    config_uri: String,
    model: &'a str,
    mac: Mac,
    user_type: &'a str,
    acc: String,
    btn: String,
}

/// The accounts.
struct Acc {
    accounts: Vec<Account>,
    empty: Vec<usize>,
    encryption: &'static str,
    encryption_mandatory: u8,
}

struct Account {
    n: usize,
    proxy: String,
    identity: String,
    user: String,
    auth_user: String,
    realm: String,
    domain: String,
    ha1: String,
}

/// The redirect document.
#[derive(Template)]
#[template(path = "linphone/redirect.xml")]
struct RedirectConfig {
    config_uri: String,
}

impl Vendor for Linphone {
    fn models(&self) -> &'static [Model] {
        &MODELS
    }

    fn boot_name(&self, mac: Mac) -> String {
        format!("{mac}.xml")
    }

    fn part(&self, name: &str, mac: Mac, _: &Model) -> Option<Part> {
        let name = name.to_ascii_lowercase();
        (name == self.boot_name(mac) || name == "linphone.xml").then_some(Part::Merged)
    }

    fn content_type(&self, _: Part) -> &'static str {
        XML
    }

    fn parts(&self) -> &'static [Part] {
        &[Part::Boot, Part::Acc, Part::Btn, Part::Merged]
    }

    fn render(&self, part: Part, phone: &Phone<'_>) -> Result<String, Fault> {
        let merged = part == Part::Merged;
        let boot = Boot {
            config_uri: format!("{}{}", phone.base, self.boot_name(phone.mac)),
            model: phone.model.name,
            mac: phone.mac,
            user_type: phone.device.user_type.name(),
            acc: format!("{}{}", phone.base, Part::Acc.neutral_name()),
            btn: format!("{}{}", phone.base, Part::Btn.neutral_name()),
        };
        write(&Config {
            boot: (merged || part == Part::Boot).then_some(boot),
            acc: (merged || part == Part::Acc).then(|| acc(phone)),
            btn: merged || part == Part::Btn,
        })
    }

    fn objections(&self, phone: &Phone<'_>) -> Vec<Objection> {
        // linphonerc lines are `key=value` and lose white space around the value; only a display
        // name could have any, and the type of it has none.
        let mixed = phone
            .lines
            .windows(2)
            .any(|two| matches!(two, [a, b] if a.pbx.sip.srtp != b.pbx.sip.srtp));
        mixed
            .then(|| {
                let detail = "Linphone has one SRTP setting for all lines, and these differ";
                Objection::new("/lines", detail)
            })
            .into_iter()
            .collect()
    }

    fn redirect(&self, name: &str, to: Redirect<'_>) -> Result<Option<Document>, Fault> {
        let name = name.to_ascii_lowercase();
        if name != self.boot_name(to.mac) && name != "linphone.xml" {
            return Ok(None);
        }
        let text = write(&RedirectConfig {
            config_uri: format!("{}{}", to.url, self.boot_name(to.mac)),
        })?;
        Ok(Some(Document {
            content_type: XML,
            text,
        }))
    }

    fn common(&self, _: &str) -> Option<Document> {
        None
    }
}

fn acc(phone: &Phone<'_>) -> Acc {
    let srtp = phone
        .lines
        .first()
        .map_or(Srtp::Off, |line| line.pbx.sip.srtp);
    Acc {
        accounts: phone.lines.iter().enumerate().map(account).collect(),
        empty: (phone.lines.len()..usize::from(phone.model.lines)).collect(),
        encryption: if srtp == Srtp::Off { "none" } else { "srtp" },
        encryption_mandatory: u8::from(srtp == Srtp::Required),
    }
}

fn account((n, line): (usize, &PhoneLine<'_>)) -> Account {
    let sip = &line.pbx.sip;
    let host = uri_host(&sip.host);
    let user = line.account.username.as_str();
    let auth_user = line.account.auth_username().as_str();
    Account {
        n,
        proxy: format!(
            "<sip:{host}:{};transport={}>",
            sip.port(),
            sip.transport.parameter()
        ),
        identity: format!(
            "{} <sip:{user}@{host}>",
            quoted(line.account.display_name())
        ),
        user: user.to_owned(),
        auth_user: auth_user.to_owned(),
        realm: line.pbx.realm.to_string(),
        domain: host,
        // Linphone keeps an `ha1` that it was once given: a new password takes effect only as a new one.
        ha1: ha1(auth_user, line.pbx.realm.as_str(), line.password.reveal()),
    }
}

/// A display name in a SIP address (RFC 3261, 25.1 `quoted-string`).
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}
