//! Linphone, as linphonec 5.1 was seen to read its configuration.

use serde_json::Value;

use super::factory::Wire;
use super::{Credential, Kit, Seen, SeenLine, Settings};
use crate::readers;

pub static KIT: Kit = Kit {
    vendor: "linphone",
    mac: "0a5ec0000001",
    model: "Linphone",
    documents: &[
        "p/boot.cfg",
        "p/ACC.cfg",
        "p/BTN.cfg",
        "p/{mac}.xml",
        "rps/{mac}.xml",
    ],
    parts: &["p/boot.cfg", "p/ACC.cfg", "p/BTN.cfg"],
    merged: Some("p/{mac}.xml"),
    read: |_, text| readers::linphone(text),
    see,
    // It shows the name of the account, has no voicemail key, and one registrar an account.
    blind: &["label", "voicemail", "backup", "line_number", "clock"],
    cannot_carry: |_, _| false,
    power_on,
    key_name: |key| {
        let letters = key.trim_end_matches(|c: char| c.is_ascii_digit());
        let (section, entry) = letters.split_once('/').unwrap();
        let section = section.trim_end_matches(|c: char| c.is_ascii_digit());
        let numbered = if section.ends_with('_') { "X" } else { "" };
        format!(
            "{section}{numbered}/{}",
            &key[key.len() - entry.len() - (key.len() - letters.len())..]
        )
    },
};

fn see(settings: &Settings, model: &Value) -> Seen {
    let get = |key: &str| settings.get(key).map_or("", String::as_str).to_owned();
    let mut seen = Seen::default();
    let encryption = match (
        get("sip/media_encryption").as_str(),
        get("sip/media_encryption_mandatory").as_str(),
    ) {
        ("none", "0") => "off",
        ("srtp", "0") => "optional",
        ("srtp", "1") => "required",
        other => panic!("{other:?}"),
    };
    let dtmf = match (
        get("sip/use_rfc2833").as_str(),
        get("sip/use_info").as_str(),
    ) {
        ("1", "0") => "rfc2833",
        ("0", "1") => "info",
        ("0", "0") => "inband",
        other => panic!("{other:?}"),
    };
    let codecs: Vec<String> = (0..5)
        .filter(|n| get(&format!("audio_codec_{n}/enabled")) == "1")
        .map(|n| get(&format!("audio_codec_{n}/mime")).to_ascii_lowercase())
        .collect();
    for n in 0..model["lines"].as_u64().unwrap() {
        let of = |name: &str| get(&format!("proxy_{n}/{name}"));
        let auth = |name: &str| get(&format!("auth_info_{n}/{name}"));
        if of("reg_proxy").is_empty() {
            assert_eq!(auth("ha1") + &auth("username"), "", "a former account");
            continue;
        }
        let (host, port, transport) = address(&of("reg_proxy"));
        let identity = of("reg_identity");
        let (name, uri) = name_and_address(&identity);
        let (user, _) = uri
            .strip_prefix(" <sip:")
            .and_then(|uri| uri.split_once('@'))
            .unwrap();
        assert_eq!(auth("username"), user);
        assert_eq!(auth("realm"), of("realm"));
        assert_eq!(auth("algorithm"), "MD5");
        let outbound = match of("reg_route").as_str() {
            "" => String::new(),
            route => {
                let (host, port, _) = address(route);
                format!("{host}:{port}")
            }
        };
        let line = SeenLine {
            user: user.to_owned(),
            auth_user: auth("userid"),
            credential: Credential::Ha1(auth("ha1")),
            name: Some(name),
            label: None,
            host,
            port,
            transport,
            srtp: Some(encryption.to_owned()),
            backup: None,
            outbound: Some(outbound),
            expires_s: of("reg_expires").parse().ok(),
            voicemail: None,
            codecs: Some(codecs.clone()),
            dtmf: Some(dtmf.to_owned()),
        };
        seen.lines.insert(n + 1, line);
    }
    // Its lines are its proxies in their order.
    let numbers: Vec<u64> = seen.lines.keys().copied().collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    seen
}

/// `<sip:host:port;transport=udp>`.
fn address(text: &str) -> (String, u64, String) {
    let inner = text
        .strip_prefix("<sip:")
        .and_then(|text| text.strip_suffix('>'))
        .unwrap();
    let (place, transport) = inner.split_once(";transport=").unwrap();
    let (host, port) = place.rsplit_once(':').unwrap();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (host.to_owned(), port.parse().unwrap(), transport.to_owned())
}

/// The display name of a SIP address (RFC 3261, 25.1 `name-addr` with a `quoted-string`), and the
/// address.
fn name_and_address(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut rest = text.strip_prefix('"').unwrap().chars();
    loop {
        match rest.next().unwrap() {
            '"' => return (name, rest.as_str()),
            '\\' => name.push(rest.next().unwrap()),
            c => name.push(c),
        }
    }
}

fn power_on(wire: &mut Wire<'_>) -> Result<Settings, String> {
    let mut uri = format!("{}{}.xml", wire.start, wire.mac);
    let mut settings = Settings::new();
    // It fetches at its start only, and goes to a new URI at its next.
    for _ in 0..2 {
        let text = wire.text(&uri, "Unknown").ok_or("404")?;
        settings.extend(readers::linphone(&text)?);
        uri.clone_from(&settings["misc/config-uri"]);
    }
    Ok(settings)
}
