//! Linphone: one XML document, fetched from the `config-uri` that the document before it set.
//!
//! Source: Linphone's "Remote provisioning" page and lpconfig.xsd; what linphonec 5.1 makes of it
//! was seen by experiment. It fetches at start only, and goes to a new `config-uri` at its next.

use askama::Template;

use super::{
    Asked, Asker, CertificateMac, Document, Facts, Generation, Model, Objection, Redirect, Vendor,
    write,
};
use crate::fault::Fault;
use crate::mac::Mac;
use crate::record::device::Function;
use crate::record::pbx::Srtp;
use crate::record::settings::{Codec, Dtmf, Setting};
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
    generation: Generation::Current,
    code: "",
}];

/// A `config` document of some of the parts.
#[derive(Template)]
#[template(path = "linphone/config.xml")]
struct Config<'a> {
    boot: Option<Boot<'a>>,
    acc: Option<Acc>,
    btn: bool,
    /// Sections with their entries, in the words of lpconfig.
    raw: Vec<(&'a str, Vec<(&'a str, &'a str)>)>,
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
    codecs: Vec<(usize, &'static str, u32, u8)>,
    dtmf: Dtmf,
}

struct Account {
    n: usize,
    proxy: String,
    route: String,
    expires: u16,
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

    fn templates(&self) -> u32 {
        3
    }

    fn facts(&self) -> Facts {
        Facts {
            serial_tells_from_mac: false,
            certificate: CertificateMac::Unknown,
            // It answers 200 and does not fetch again (seen with linphonec 5.1).
            resync: "check-sync",
            reboot: "check-sync",
        }
    }

    fn lacks(&self, _: &Model) -> &'static [Setting] {
        // A soft phone has the clock, the language, the network and the web page of its host, and
        // fetches when it starts.
        &[
            Setting::Timezone,
            Setting::Language,
            Setting::NtpServer,
            Setting::Clock24h,
            Setting::ResyncMinutes,
            Setting::ResyncSpreadMinutes,
            Setting::Transfer,
            Setting::CallWaiting,
            Setting::Vlan,
            Setting::Lldp,
            Setting::Ringtone,
            Setting::Wallpaper,
            Setting::DialPlan,
            Setting::Forward,
            Setting::Dnd,
            Setting::AutoAnswer,
            Setting::FirmwareUrl,
            Setting::SyslogServer,
            Setting::WebUi,
            Setting::AdminPassword,
            Setting::UserPassword,
        ]
    }

    fn functions(&self, _: &Model) -> &'static [Function] {
        &[]
    }

    fn boot_name(&self, mac: Mac, _: &Model) -> String {
        name(mac)
    }

    fn asked(&self, file: &str, asker: Asker<'_>) -> Option<Asked> {
        let file = file.to_ascii_lowercase();
        (file == name(asker.mac) || file == "linphone.xml").then_some(Asked::Part(Part::Merged))
    }

    fn content_type(&self, _: Part) -> &'static str {
        XML
    }

    fn parts(&self, _: &Model) -> &'static [Part] {
        &[Part::Boot, Part::Acc, Part::Btn, Part::Merged]
    }

    fn render(&self, part: Part, phone: &Phone<'_>) -> Result<String, Fault> {
        let merged = part == Part::Merged;
        let boot = Boot {
            config_uri: format!("{}{}", phone.base, name(phone.mac)),
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
            raw: if merged || part == Part::Boot {
                raw(phone)
            } else {
                Vec::new()
            },
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

    fn remarks(&self, phone: &Phone<'_>) -> Vec<Objection> {
        let backup = |line: &&PhoneLine<'_>| line.pbx.sip.backup_host.is_some();
        phone
            .lines
            .iter()
            .filter(backup)
            .map(|line| {
                let detail = "Linphone takes no backup server: its PBX's is left out";
                Objection::new(format!("/lines/{}/account", line.index), detail)
            })
            .collect()
    }

    fn raw_key(&self, key: &str) -> Result<(), &'static str> {
        let word = |s: &str| {
            !s.is_empty()
                && s.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        };
        match key.split_once('/') {
            Some((section, entry)) if word(section) && word(entry) => Ok(()),
            _ => Err("is no entry of Linphone: write section/entry"),
        }
    }

    fn sets(&self, text: &str, key: &str) -> bool {
        let Some((section, entry)) = key.split_once('/') else {
            return false;
        };
        let mut inside = false;
        text.lines().any(|line| {
            let line = line.trim_start();
            if let Some(rest) = line.strip_prefix("<section name=\"") {
                inside = rest.starts_with(&format!("{section}\""));
            }
            inside && line.starts_with(&format!("<entry name=\"{entry}\""))
        })
    }

    fn redirect(&self, asked: &str, to: Redirect<'_>) -> Result<Option<Document>, Fault> {
        let asked = asked.to_ascii_lowercase();
        if asked != name(to.mac) && asked != "linphone.xml" {
            return Ok(None);
        }
        let text = write(&RedirectConfig {
            config_uri: format!("{}{}", to.url, name(to.mac)),
        })?;
        Ok(Some(Document::text(XML, text)))
    }

    fn common(&self, _: &str, _: &str) -> Result<Option<Document>, Fault> {
        Ok(None)
    }
}

/// The name of its one file.
fn name(mac: Mac) -> String {
    format!("{mac}.xml")
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
        codecs: codecs(&phone.settings.codecs),
        dtmf: phone.settings.dtmf,
    }
}

/// Every codec by its RTP name and clock rate (RFC 3551; G.722's is 8000 though it samples at 16000),
/// the wanted ones first, and whether it is on.
fn codecs(wanted: &[Codec]) -> Vec<(usize, &'static str, u32, u8)> {
    let off = Codec::ALL
        .into_iter()
        .filter(|codec| !wanted.contains(codec));
    let on = wanted.iter().map(|codec| (*codec, 1));
    on.chain(off.map(|codec| (codec, 0)))
        .enumerate()
        .map(|(n, (codec, enabled))| {
            let (mime, rate) = match codec {
                Codec::G722 => ("G722", 8_000),
                Codec::Pcma => ("PCMA", 8_000),
                Codec::Pcmu => ("PCMU", 8_000),
                Codec::G729 => ("G729", 8_000),
                Codec::Opus => ("opus", 48_000),
            };
            (n, mime, rate, enabled)
        })
        .collect()
}

/// What is written in Linphone's own words, section by section.
fn raw<'a>(phone: &'a Phone<'_>) -> Vec<(&'a str, Vec<(&'a str, &'a str)>)> {
    let mut sections: Vec<(&str, Vec<(&str, &str)>)> = Vec::new();
    for (key, value) in &phone.settings.raw {
        let Some((section, entry)) = key.as_str().split_once('/') else {
            continue;
        };
        // The keys are in order, so a section's entries stand together.
        match sections.last_mut() {
            Some((last, entries)) if *last == section => entries.push((entry, value.as_str())),
            _ => sections.push((section, vec![(entry, value.as_str())])),
        }
    }
    sections
}

fn account((n, line): (usize, &PhoneLine<'_>)) -> Account {
    let sip = &line.pbx.sip;
    let host = uri_host(&sip.host);
    let route = sip
        .outbound_proxy()
        .map_or_else(String::new, |(host, port)| {
            let transport = sip.transport.parameter();
            format!("<sip:{}:{port};transport={transport}>", uri_host(host))
        });
    let user = line.account.username.as_str();
    let auth_user = line.account.auth_username().as_str();
    Account {
        n,
        proxy: format!(
            "<sip:{host}:{};transport={}>",
            sip.port(),
            sip.transport.parameter()
        ),
        route,
        expires: sip.expires_s(),
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
