//! Gigaset, whose phones read four syntaxes: Snom's (P), `<provisioning>` with two sets of names
//! (Maxwell, N610 to N870), and `<ProviderFrame>` (N510, N720).

use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use serde_json::Value;

use super::clock::SeenClock;
use super::factory::Wire;
use super::{Credential, Kit, Seen, SeenKey, SeenLine, Settings, snom};
use crate::readers::entity;

pub static KIT: Kit = Kit {
    vendor: "gigaset",
    mac: "7c2f80000001",
    model: "P710",
    documents: &[
        "p/boot.cfg",
        "p/first.cfg",
        "p/ACC.cfg",
        "p/BTN.cfg",
        "p/{mac}.xml",
        "rps/{mac}.xml",
    ],
    parts: &["p/first.cfg", "p/ACC.cfg", "p/BTN.cfg"],
    merged: Some("p/{mac}.xml"),
    read: |_, text| Ok(read(text)?.settings),
    see,
    // What nobody has published a parameter for.
    blind: &[
        "Maxwell:backup",
        "Maxwell:expires_s",
        "dect:label",
        "dect:codecs",
        "former:backup",
        "former:srtp",
        "former:transport",
        "N720:label",
    ],
    cannot_carry: |slot, text| slot != "key_value" && text.trim() != text,
    power_on,
    key_name,
};

/// `SIP.Account.X.Active`, `…astAccounts[X].uiSendMask`, `…aucS_SIP_DOMAIN_X`; Snom's by its kit.
fn key_name(key: &str) -> String {
    if let Some(rest) = key.strip_prefix("oper:") {
        return format!("oper:{}", rest.split(':').next().unwrap());
    }
    if !key.contains('.') {
        return (snom::KIT.key_name)(key);
    }
    let numbers = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let mut words: Vec<String> = Vec::new();
    for word in key.split('.') {
        let word = match word.split_once('[') {
            Some((name, rest)) if numbers(rest.trim_end_matches(']')) => format!("{name}[X]"),
            _ => word.to_owned(),
        };
        words.push(match word.rsplit_once('_') {
            Some((name, n)) if numbers(n) => format!("{name}_X"),
            _ if numbers(&word) => "X".to_owned(),
            _ => word,
        });
    }
    words.join(".")
}

/// Reads a file in whichever syntax it is. An operation is a setting `oper:{name}:{value}`.
fn read(text: &str) -> Result<snom::File, String> {
    if text.contains("<settings>") || text.contains("<setting-files>") {
        return snom::read(text);
    }
    if !text.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n") || !text.ends_with(">\n") {
        return Err("no whole document".to_owned());
    }
    for line in text.lines() {
        if line.trim_end() != line || line.is_empty() || line.contains(char::is_control) {
            return Err(format!(
                "{line:?} is blank, ends in a space or holds a control"
            ));
        }
    }
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_comments = true;
    let mut file = snom::File::default();
    let mut open: Vec<String> = Vec::new();
    let (mut declared, mut roots, mut profile) = (false, 0, BTreeMap::new());
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Eof => break,
            Event::Decl(_) if !declared => declared = true,
            Event::Comment(_) if open.is_empty() && roots == 0 => {}
            Event::Start(start) => {
                let name = start.name().as_ref().to_owned();
                let mut attributes = attributes(&start)?;
                let parents: Vec<&str> = open.iter().map(String::as_str).collect();
                match (parents.as_slice(), name.as_str()) {
                    ([], "provisioning") if roots == 0 => {
                        roots = 1;
                        let version = attributes.remove("version");
                        let product = attributes.remove("productID");
                        if version.as_deref() != Some("1.1") || product.is_some_and(|id| id != "e2")
                        {
                            return Err("another version".to_owned());
                        }
                    }
                    (["provisioning"], "nvm") | (["ProviderFrame"], "Provider") => {}
                    ([], "ProviderFrame") if roots == 0 => {
                        roots = 1;
                        attributes.clear();
                    }
                    (["provisioning", "nvm"], "oper") => {
                        oper(&mut file.settings, &mut attributes)?;
                    }
                    _ => return Err(format!("{name} in {open:?}")),
                }
                if let Some(more) = attributes.keys().next() {
                    return Err(format!("{name} has {more}"));
                }
                open.push(name);
            }
            Event::Empty(start) => {
                let parents: Vec<&str> = open.iter().map(String::as_str).collect();
                element(&start, &parents, &mut file.settings, &mut profile)?;
            }
            Event::End(_) => {
                open.pop();
            }
            Event::Text(piece) if piece.xml10_content().trim().is_empty() => {}
            other => return Err(format!("{other:?}")),
        }
    }
    let mac = KIT.mac.to_ascii_uppercase();
    if text.contains("<ProviderFrame") && profile.get("MAC_ADDRESS") != Some(&mac) {
        // "If not correct, no settings will be changed" (the vendor's template).
        return Err("the file is another phone's".to_owned());
    }
    if declared && roots == 1 && open.is_empty() {
        Ok(file)
    } else {
        Err("no whole document".to_owned())
    }
}

/// An element that holds nothing.
fn element(
    start: &BytesStart<'_>,
    parents: &[&str],
    settings: &mut Settings,
    profile: &mut Settings,
) -> Result<(), String> {
    let name = start.name().as_ref().to_owned();
    let mut attributes = attributes(start)?;
    match (parents, name.as_str()) {
        (["provisioning", "nvm"], "oper") => {
            oper(settings, &mut attributes)?;
        }
        (["provisioning", "nvm"], "param") => {
            let key = attributes.remove("name").ok_or("no name")?;
            let value = attributes.remove("value").ok_or("no value")?;
            once(settings, &key, value)?;
        }
        (["provisioning", "nvm", "oper"], "param") => {
            let wanted = [("name", "hs.RegStatus"), ("value", "ToReg")];
            for (name, value) in wanted {
                if attributes.remove(name).as_deref() != Some(value) {
                    return Err("another operation".to_owned());
                }
            }
        }
        (["ProviderFrame", "Provider"], "SYMB_ITEM") => {
            let key = attributes.remove("ID").ok_or("no ID")?;
            let value = attributes.remove("value").ok_or("no value")?;
            if attributes.remove("class").as_deref() != Some("symb_item") {
                return Err(format!("{key} is of no class"));
            }
            // Texts, and only they, are arrays of characters and stand in quotes.
            let text =
                key.split('.').any(|word| word.starts_with("auc")) && !key.contains("VOCODER");
            let value = if text {
                unquote(&value)?
            } else {
                number(&value)?
            };
            once(settings, &key, value)?;
        }
        (["ProviderFrame", "Provider"], "S_CONFIGFILE_URL") => {
            attributes.remove("class");
            let value = attributes.remove("value").ok_or("no value")?;
            once(settings, &name, unquote(&value)?)?;
        }
        (["ProviderFrame", "Provider"], "MAC_ADDRESS" | "PROFILE_NAME") => {
            attributes.remove("class");
            let value = attributes.remove("value").ok_or("no value")?;
            once(profile, &name, value)?;
        }
        _ => return Err(format!("{name} in {parents:?}")),
    }
    if let Some(more) = attributes.keys().next() {
        return Err(format!("{name} has {more}"));
    }
    Ok(())
}

fn oper(settings: &mut Settings, attributes: &mut Settings) -> Result<(), String> {
    let name = attributes
        .remove("name")
        .ok_or("an operation without a name")?;
    let value = attributes.remove("value").unwrap_or_default();
    once(settings, &format!("oper:{name}:{value}"), String::new())
}

fn once(settings: &mut Settings, key: &str, value: String) -> Result<(), String> {
    match settings.insert(key.to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(format!("{key} is set twice")),
    }
}

fn unquote(value: &str) -> Result<String, String> {
    let inner = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'));
    match inner {
        Some(inner) if !inner.contains('"') => Ok(inner.to_owned()),
        _ => Err(format!("{value} does not stand in quotes")),
    }
}

fn number(value: &str) -> Result<String, String> {
    let fine = |n: &str| {
        n.strip_prefix("0x").map_or_else(
            || n.parse::<u64>().is_ok(),
            |hex| u64::from_str_radix(hex, 16).is_ok(),
        )
    };
    if value.split(',').all(fine) {
        Ok(value.to_owned())
    } else {
        Err(format!("{value} is no number"))
    }
}

fn attributes(start: &BytesStart<'_>) -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let mut value = String::new();
        let mut rest: &str = &attribute.value;
        while let Some((before, after)) = rest.split_once('&') {
            let (name, after) = after.split_once(';').ok_or("& in an attribute")?;
            value.push_str(before);
            value.push_str(entity(name)?);
            rest = after;
        }
        value.push_str(rest);
        found.insert(attribute.key.as_ref().to_owned(), value);
    }
    Ok(found)
}

fn see(settings: &Settings, model: &Value) -> Seen {
    let name = model["model"].as_str().unwrap();
    match model["generation"].as_str().unwrap() {
        "dect" => see_nx70(settings, model),
        "former" => see_former(settings, model, name == "N720"),
        _ if name.starts_with('P') => snom::see(settings, model),
        _ => see_maxwell(settings, model),
    }
}

fn outbound(host: &str, port: &str) -> String {
    if host.is_empty() {
        String::new()
    } else {
        format!("{host}:{port}")
    }
}

fn srtp(enabled: &str, plain: &str) -> String {
    let mode = match (enabled, plain) {
        ("0", "1") => "off",
        ("1", "1") => "optional",
        ("1", "0") => "required",
        other => panic!("{other:?}"),
    };
    mode.to_owned()
}

fn see_maxwell(settings: &Settings, model: &Value) -> Seen {
    let get = |key: &str| settings.get(key).cloned().unwrap_or_default();
    let mut seen = Seen::default();
    let codecs: Vec<String> = get("SIP.ActiveCodecs")
        .split(',')
        .map(|payload| match payload {
            "9" => "g722".to_owned(),
            "8" => "pcma".to_owned(),
            "0" => "pcmu".to_owned(),
            "18" => "g729".to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    for n in 0..model["lines"].as_u64().unwrap() {
        let of = |name: &str| get(&format!("SIP.Account.{n}.{name}"));
        if of("Active") != "1" {
            for name in [
                "Username",
                "AuthPassword",
                "RegistrationServer.Address",
                "AccountName",
            ] {
                assert_eq!(of(name), "", "account {n} is off and keeps its {name}");
            }
            continue;
        }
        let host = of("RegistrationServer.Address");
        assert_eq!(
            (of("Domain"), of("ProxyServer.Address")),
            (host.clone(), host.clone())
        );
        let line = SeenLine {
            user: of("Username"),
            auth_user: of("AuthName"),
            credential: Credential::Password(of("AuthPassword")),
            name: Some(of("DisplayName")),
            label: Some(of("AccountName")),
            host,
            port: of("RegistrationServer.Port").parse().unwrap(),
            transport: match (
                get("SIP.TransportProtocol").as_str(),
                get("SIP.Security.UseSIPS").as_str(),
            ) {
                ("1", "0") => "udp".to_owned(),
                ("2", "0") => "tcp".to_owned(),
                ("2", "1") => "tls".to_owned(),
                other => panic!("{other:?}"),
            },
            srtp: Some(srtp(
                &get("SIP.Security.SRTP"),
                &get("SIP.Security.AcceptNonSRTPCalls"),
            )),
            backup: None,
            outbound: Some(outbound(
                &of("OutboundProxy.Address"),
                &of("OutboundProxy.Port"),
            )),
            expires_s: None,
            voicemail: Some(of("VoiceMail.Mailbox")),
            codecs: Some(codecs.clone()),
            dtmf: Some(match of("DTMFTransmission").as_str() {
                "0" => "inband".to_owned(),
                "1" => "rfc2833".to_owned(),
                "3" => "info".to_owned(),
                other => panic!("{other:?}"),
            }),
        };
        seen.lines.insert(n + 1, line);
    }
    for n in 0..model["keys"].as_u64().unwrap() {
        let of = |name: &str| get(&format!("PhoneUI.Keys.FunctionKeys.{n}.{name}"));
        let (function, field) = match of("Type").as_str() {
            "-1" => continue,
            "0" => ("line", "Connection"),
            "3" => ("speed_dial", "PhoneNumber"),
            "4" => ("blf", "PhoneNumber"),
            "6" => ("forward", "PhoneNumber"),
            "7" => ("dtmf", "EnableCode"),
            "8" => ("url", "URL"),
            "10" => ("pickup", "EnableCode"),
            other => panic!("{other:?}"),
        };
        let line = (function == "line").then(|| of(field).parse::<u64>().unwrap() + 1);
        let key = SeenKey {
            function: function.to_owned(),
            value: if line.is_some() {
                String::new()
            } else {
                of(field)
            },
            label: Some(of("DisplayName")),
            line,
        };
        seen.keys.insert((0, n + 1), key);
    }
    seen.clock = settings
        .get("System.DateAndTime.TimeZone")
        .map(|zone| SeenClock::Named(zone.split_once('.').unwrap().1.to_owned()));
    seen
}

fn see_nx70(settings: &Settings, model: &Value) -> Seen {
    let get = |key: &str| settings.get(key).cloned().unwrap_or_default();
    assert!(
        settings.contains_key("oper:DeleteNotProvisionedHS:"),
        "handsets stay that are gone"
    );
    let mut seen = Seen::default();
    for n in 1..=model["lines"].as_u64().unwrap() {
        let id = format!("{n:05}");
        if !settings.contains_key(&format!("oper:add_hs:{id}")) {
            assert_eq!(get(&format!("SipAccount.{id}.AuthName")), "");
            continue;
        }
        let of = |name: &str| settings[&format!("SipAccount.{id}.{name}")].clone();
        let at = |name: &str| settings[&format!("SipProvider.{}.{name}", of("ProviderId"))].clone();
        assert_eq!(get(&format!("hs.{id}.DECT_AC")).len(), 4);
        let host = at("RegServerAddress");
        assert_eq!(
            (at("Domain"), at("ProxyServerAddress")),
            (host.clone(), host.clone())
        );
        let backup = at("FailoverServerAddress");
        assert_eq!(at("FailoverServerEnabled") == "1", !backup.is_empty());
        let proxy = at("OutboundProxyAddress");
        assert_eq!(
            at("OutboundProxyMode"),
            if proxy.is_empty() { "2" } else { "0" }
        );
        let line = SeenLine {
            user: of("UserName"),
            auth_user: of("AuthName"),
            credential: Credential::Password(of("AuthPassword")),
            name: Some(of("DisplayName")),
            label: None,
            host,
            port: at("RegServerPort").parse().unwrap(),
            transport: ["", "udp", "tcp", "tls"][at("TransportProtocol").parse::<usize>().unwrap()]
                .to_owned(),
            srtp: Some(srtp(&at("SRTP_Enabled"), &at("AcceptNonSRTPCalls"))),
            backup: Some(backup),
            outbound: Some(outbound(&proxy, &at("OutboundProxyPort"))),
            expires_s: at("RegServerRefreshTimer").parse().ok(),
            voicemail: Some(of("VoiceMailMailbox")),
            codecs: None,
            dtmf: Some(dtmf(&at("DTMFTransmission"))),
        };
        seen.lines.insert(n, line);
    }
    seen.clock = settings
        .get("DmGlobal.0.TimeZone")
        .cloned()
        .map(SeenClock::Named);
    seen
}

fn dtmf(bit: &str) -> String {
    match bit {
        "1" => "inband",
        "2" => "rfc2833",
        "4" => "info",
        other => panic!("{other:?}"),
    }
    .to_owned()
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap()
}

fn see_former(settings: &Settings, model: &Value, n720: bool) -> Seen {
    let mut seen = Seen::default();
    let get = |key: &str| {
        settings
            .get(key)
            .unwrap_or_else(|| panic!("no {key}"))
            .clone()
    };
    let data = if n720 { "BS_VOIP_Data" } else { "BS_IP_Data1" };
    for n in 1..=model["lines"].as_u64().unwrap() {
        let at = n - 1;
        let suffix = if n == 1 {
            String::new()
        } else {
            format!("_{n}")
        };
        let account = |name: &str| match (n720, name) {
            (true, name) => get(&format!("BS_VOIP_Data.astVoipAccounts[{at}].{name}[0]")),
            (false, "aucS_SIP_LOGIN_ID") => get(&format!("BS_IP_Data3.{name}{suffix}")),
            (false, name) => get(&format!("BS_IP_Data1.{name}{suffix}")),
        };
        let numbered = |name: &str, array: &str| {
            get(&if n720 {
                format!("BS_VOIP_Data.astVoipAccounts[{at}].{name}_1{array}")
            } else {
                format!("BS_IP_Data1.{name}_{n}")
            })
        };
        if numbered("ucB_SIP_ACCOUNT_IS_ACTIVE", "") != "1" {
            for name in ["aucS_SIP_USER_ID", "aucS_SIP_PASSWORD", "aucS_SIP_LOGIN_ID"] {
                assert_eq!(account(name), "", "account {n} is off and keeps its {name}");
            }
            continue;
        }
        let provider = |text: &str, name: &str| {
            if n720 {
                let of = get(&format!(
                    "BS_VOIP_Data.astVoipAccounts[{at}].ucVoipProviderIndex"
                ));
                get(&format!("BS_VOIP_Data.astVoipProviders[{of}].{name}"))
            } else {
                account(text)
            }
        };
        let codecs = if n720 {
            get(&format!(
                "BS_VOIP_Data.astVoipAccounts[{at}].aucI_SIP_PREFERRED_VOCODER[%]"
            ))
        } else {
            account("ucI_SIP_PREFERRED_VOCODER")
        };
        let label = (!n720).then(|| {
            let label = get(&format!("BS_IP_Data1.aucS_SIP_ACCOUNT_NAME_{n}"));
            assert_eq!(
                get(&format!("BS_AE_Subscriber.stMtDat[{at}].aucTlnName")),
                label
            );
            let mask = format!("{:#x}", 1 << at);
            for name in ["uiSendMask", "uiReceiveMask"] {
                assert_eq!(get(&format!("BS_Accounts.astAccounts[{at}].{name}")), mask);
            }
            label
        });
        let proxy = provider("aucS_OUTBOUND_PROXY", "aucOUTBOUND_PROXY[%]");
        let mode = provider("ucI_OUTBOUND_PROXY_MODE", "ucOUTBOUND_PROXY_MODE");
        assert_eq!(mode, if proxy.is_empty() { "0x2" } else { "0x0" });
        let proxy_port = hex(&provider(
            "uiI_OUTBOUND_PROXY_PORT",
            "uiOUTBOUND_PROXY_PORT",
        ));
        let host = provider("aucS_SIP_SERVER", "aucSIP_SERVER[%]");
        assert_eq!(provider("aucS_SIP_REGISTRAR", "aucSIP_REGISTRAR[%]"), host);
        assert_eq!(provider("aucS_SIP_DOMAIN", "aucSIP_DOMAIN[%]"), host);
        let line = SeenLine {
            user: account("aucS_SIP_USER_ID"),
            auth_user: account("aucS_SIP_LOGIN_ID"),
            credential: Credential::Password(account("aucS_SIP_PASSWORD")),
            name: Some(account("aucS_SIP_DISPLAYNAME")),
            label,
            host,
            port: hex(&provider("uiI_SIP_SERVER_PORT", "uiSIP_SERVER_PORT")),
            transport: String::new(),
            srtp: None,
            backup: None,
            outbound: Some(outbound(&proxy, &proxy_port.to_string())),
            expires_s: Some(hex(&provider(
                "uiI_RE_REGISTRATION_TIMER",
                "uiRE_REGISTRATION_TIMER",
            ))),
            voicemail: Some(numbered("aucS_VOIP_NET_AM_NUMBER", "[%]")),
            codecs: Some(vocoders(&codecs)),
            dtmf: Some(dtmf(&get(&format!("{data}.ucI_DTMF_TX_MODE_BITS")))),
        };
        seen.lines.insert(n, line);
    }
    seen.clock = former_clock(settings, n720);
    seen
}

fn vocoders(codes: &str) -> Vec<String> {
    assert_eq!(codes.split(',').count(), 5);
    codes
        .split(',')
        .filter_map(|code| match code {
            "0x00" => Some("pcmu".to_owned()),
            "0x01" => Some("pcma".to_owned()),
            "0x03" => Some("g729".to_owned()),
            "0x05" => Some("g722".to_owned()),
            "0xff" => None,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn former_clock(settings: &Settings, n720: bool) -> Option<SeenClock> {
    let data = if n720 { "BS_IP_Data" } else { "BS_IP_Data1" };
    let code = settings.get(&format!("{data}.uiI_TIME_TIMEZONE"))?;
    let (name, summer) = match hex(code) {
        13 => ("America/New_York", "1"),
        18 => ("America/St_Johns", "1"),
        25 => ("Africa/Monrovia", "0"),
        27 => ("Europe/Berlin", "1"),
        48 => ("Asia/Kolkata", "0"),
        other => panic!("{other}"),
    };
    let automatic = &settings[&format!("{data}.ucB_TIME_USE_AUTOMATIC_DST")];
    assert_eq!(automatic, summer);
    Some(SeenClock::Named(name.to_owned()))
}

fn power_on(wire: &mut Wire<'_>) -> Result<Settings, String> {
    let name = wire.model["model"].as_str().unwrap().to_owned();
    let upper = wire.upper();
    let (agent, file, key) = match wire.model["generation"].as_str().unwrap() {
        "dect" => (
            format!("Gigaset {name} IP PRO/83.V2.11.0+build.a546b91;{upper}"),
            wire.mac.clone(),
            "Provisioning.global.ProvisioningServer",
        ),
        "former" => (
            format!("{name} IP PRO/42.258.00.000.000;{upper}"),
            upper,
            "S_CONFIGFILE_URL",
        ),
        _ => (String::new(), wire.mac.clone(), "setting_server"),
    };
    // It was given a URL with the vendor's %MACD in it.
    let mut server = format!("{}{file}.xml", wire.start);
    let mut settings = Settings::new();
    for _ in 0..3 {
        let read = read(&wire.text(&server, &agent).ok_or("404")?)?;
        settings.extend(read.settings);
        for url in read.files {
            let text = wire
                .text(&url, &agent)
                .ok_or_else(|| format!("{url}: 404"))?;
            settings.extend(self::read(&text)?.settings);
        }
        let next = settings.get(key).cloned().ok_or("no server was set")?;
        let moved = next != server;
        server = next;
        if !moved {
            return Ok(settings);
        }
    }
    Err("it never settled".to_owned())
}

#[test]
fn the_reader_refuses_what_a_phone_could_misread() {
    let document = |inner: &str| {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<provisioning version=\"1.1\"><nvm>{inner}</nvm></provisioning>\n"
        )
    };
    let one = "<param name=\"a.b\" value=\"x &amp;&quot; y\"/>";
    assert_eq!(read(&document(one)).unwrap().settings["a.b"], "x &\" y");
    for wrong in [
        format!("{one}{one}"),
        "<param name=\"a\"/>".to_owned(),
        "<param name=\"a\" value=\"&#65;\"/>".to_owned(),
        "<param name=\"a\" value=\"x\">".to_owned(),
        "<other/>".to_owned(),
        "x".to_owned(),
    ] {
        assert!(read(&document(&wrong)).is_err(), "{wrong}");
    }
    assert!(unquote("\"a\"b\"").is_err() && unquote("a").is_err() && number("x").is_err());
}
