//! What a phone must be told, from the records alone, and whether it was.

use md5::{Digest, Md5};
use serde_json::{Value, json};

use crate::fixtures::Case;
use crate::vendors::{Credential, Kit, Seen, SeenKey, SeenLine, clock};
use crate::world::hex;

/// The records of one phone.
pub struct Told<'a> {
    pub device: &'a Value,
    /// An account by its id.
    pub account: Box<dyn Fn(&str) -> &'a Value + 'a>,
    /// A PBX by its id.
    pub pbx: Box<dyn Fn(&str) -> &'a Value + 'a>,
    /// A setting: of the device, else of its profile, else of its tenant.
    pub setting: Box<dyn Fn(&str) -> Value + 'a>,
}

impl<'a> Told<'a> {
    /// The records of a case.
    pub fn of_case(case: &'a Case) -> Self {
        let device = case.device();
        Self {
            device,
            account: Box::new(|id| case.record("accounts", id)),
            pbx: Box::new(|id| case.record("pbxes", id)),
            setting: Box::new(move |name| {
                let profile = device["profile"].as_str().unwrap_or_default();
                let tenant = device["tenant"].as_str().unwrap();
                [
                    device,
                    case.record("profiles", profile),
                    case.record("tenants", tenant),
                ]
                .into_iter()
                .map(|level| &level["settings"][name])
                .find(|value| !value.is_null())
                .cloned()
                .unwrap_or(Value::Null)
            }),
        }
    }
}

fn str(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn port(value: &Value, transport: &str) -> u64 {
    let default = if transport == "tls" { 5061 } else { 5060 };
    value.as_u64().unwrap_or(default)
}

/// Whether phones of a model are blind to a thing: all of the vendor's, those of its generation, or
/// those whose name begins so.
fn is_blind(kit: &Kit, model: &Value, name: &str) -> bool {
    kit.blind.iter().any(|blind| match blind.split_once(':') {
        Some((some, blind)) => {
            blind == name && (model["generation"] == some || str(&model["model"]).starts_with(some))
        }
        None => *blind == name,
    })
}

/// A value that phones may be blind to.
fn known<T>(kit: &Kit, model: &Value, name: &str, value: T) -> Option<T> {
    (!is_blind(kit, model, name)).then_some(value)
}

/// A line as it must be, with the credential in the form that the phone has it in.
fn line(
    kit: &Kit,
    model: &Value,
    told: &Told<'_>,
    line: &Value,
    seen: Option<&SeenLine>,
) -> SeenLine {
    let account = (told.account)(str(&line["account"]));
    let pbx = (told.pbx)(str(&account["pbx"]));
    let sip = &pbx["sip"];
    let user = str(&account["username"]);
    let auth_user = account["auth_username"].as_str().unwrap_or(user);
    let name = account["display_name"].as_str().unwrap_or(user);
    let password = str(&account["password"]);
    let transport = sip["transport"].as_str().unwrap_or("udp");
    let realm = pbx["realm"].as_str().unwrap_or("asterisk");
    let outbound = sip["outbound_proxy"]
        .as_str()
        .map_or(String::new(), |host| {
            format!("{host}:{}", port(&sip["outbound_proxy_port"], transport))
        });
    let codecs = match (told.setting)("codecs") {
        Value::Null => json!(["g722", "pcma", "pcmu"]),
        codecs => codecs,
    };
    let codecs = codecs
        .as_array()
        .unwrap()
        .iter()
        .map(str)
        .map(ToOwned::to_owned);
    SeenLine {
        user: user.to_owned(),
        auth_user: auth_user.to_owned(),
        credential: match seen.map(|seen| &seen.credential) {
            Some(Credential::Ha1(_)) => {
                let a1 = format!("{auth_user}:{realm}:{password}");
                Credential::Ha1(hex(&Md5::digest(a1)))
            }
            _ => Credential::Password(password.to_owned()),
        },
        name: known(kit, model, "name", name.to_owned()),
        label: known(
            kit,
            model,
            "label",
            line["label"].as_str().unwrap_or(name).to_owned(),
        ),
        host: str(&sip["host"]).to_owned(),
        port: port(&sip["port"], transport),
        transport: known(kit, model, "transport", transport.to_owned()).unwrap_or_default(),
        srtp: known(
            kit,
            model,
            "srtp",
            sip["srtp"].as_str().unwrap_or("off").to_owned(),
        ),
        backup: known(kit, model, "backup", str(&sip["backup_host"]).to_owned()),
        outbound: known(kit, model, "outbound", outbound),
        expires_s: known(
            kit,
            model,
            "expires_s",
            sip["expires_s"].as_u64().unwrap_or(600),
        ),
        voicemail: known(
            kit,
            model,
            "voicemail",
            str(&account["voicemail"]).to_owned(),
        ),
        codecs: known(kit, model, "codecs", codecs.collect()),
        dtmf: known(
            kit,
            model,
            "dtmf",
            (told.setting)("dtmf")
                .as_str()
                .unwrap_or("rfc2833")
                .to_owned(),
        ),
    }
}

fn key(kit: &Kit, model: &Value, told: &Told<'_>, button: &Value) -> SeenKey {
    let function = str(&button["type"]);
    let number = button["line"].as_u64().unwrap_or(1);
    let lines = told.device["lines"].as_array();
    let line = lines
        .into_iter()
        .flatten()
        .find(|line| line["line"] == number);
    let account = line.map(|line| (told.account)(str(&line["account"])));
    let own = str(&button["value"]);
    let value = match (function, account) {
        ("voicemail", Some(account)) if own.is_empty() => str(&account["voicemail"]),
        _ => own,
    };
    let line_label = line.zip(account).map_or("", |(line, account)| {
        let name = account["display_name"].as_str();
        line["label"]
            .as_str()
            .or(name)
            .unwrap_or(str(&account["username"]))
    });
    let label = match (button["label"].as_str(), function) {
        (Some(label), _) => label,
        (None, "line") => line_label,
        (None, _) => own,
    };
    SeenKey {
        function: function.to_owned(),
        value: value.to_owned(),
        label: known(kit, model, "key_label", label.to_owned()),
        line: known(kit, model, "key_line", number),
    }
}

/// Fails unless the phone does what the records say and nothing else.
pub fn compare(what: &str, kit: &Kit, model: &Value, seen: &Seen, told: &Told<'_>) {
    let lines = told.device["lines"].as_array();
    let lines = || lines.into_iter().flatten();
    let numbers: Vec<u64> = seen.lines.keys().copied().collect();
    let mut wanted: Vec<u64> = lines().map(|line| line["line"].as_u64().unwrap()).collect();
    wanted.sort_unstable();
    // Phones whose accounts have no number have them in order.
    let in_order = is_blind(kit, model, "line_number");
    let at = |number: u64| match wanted.binary_search(&number) {
        Ok(at) if in_order => at as u64 + 1,
        _ => number,
    };
    let there: Vec<u64> = wanted.iter().map(|number| at(*number)).collect();
    assert_eq!(numbers, there, "{what}: the lines");
    for record in lines() {
        let number = record["line"].as_u64().unwrap();
        let has = &seen.lines[&at(number)];
        assert_eq!(
            *has,
            line(kit, model, told, record, Some(has)),
            "{what}: line {number}"
        );
    }

    let buttons = told.device["buttons"].as_array();
    let buttons = || buttons.into_iter().flatten();
    let mut keys: std::collections::BTreeMap<(u64, u64), SeenKey> = buttons()
        .filter(|button| button["type"] != "none")
        .map(|button| {
            let place = (
                button["module"].as_u64().unwrap_or(0),
                button["key"].as_u64().unwrap(),
            );
            (place, key(kit, model, told, button))
        })
        .collect();
    if buttons().all(|button| !button["module"].is_null()) {
        // Without a key of its own on the phone, the first ones are the lines'.
        for record in lines() {
            let number = record["line"].as_u64().unwrap();
            if number <= model["keys"].as_u64().unwrap() {
                let button = json!({ "type": "line", "line": number });
                keys.insert((0, number), key(kit, model, told, &button));
            }
        }
    }
    for (place, wanted) in &keys {
        let Some(has) = seen.keys.get(place) else {
            panic!("{what}: key {place:?} is blank and should be {wanted:?}");
        };
        // Where the function itself has no place for a line or a label, a kit says None.
        let mut wanted = wanted.clone();
        if has.line.is_none() {
            wanted.line = None;
        }
        if has.label.is_none() {
            wanted.label = None;
        }
        assert_eq!(*has, wanted, "{what}: key {place:?}");
    }
    let more: Vec<_> = seen
        .keys
        .keys()
        .filter(|place| !keys.contains_key(place))
        .collect();
    assert!(more.is_empty(), "{what}: keys that nobody set: {more:?}");

    if is_blind(kit, model, "clock") {
        assert!(seen.clock.is_none(), "{what}");
    } else {
        let zone = (told.setting)("timezone");
        let clock = seen
            .clock
            .as_ref()
            .unwrap_or_else(|| panic!("{what}: no clock"));
        clock::compare(what, clock, zone.as_str().unwrap_or("UTC"));
    }
}
