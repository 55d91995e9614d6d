//! Who a phone says it is, on what real phones sent (`fixtures/ident`).

use std::fs;

use dialtone::ident::{self, Source};
use dialtone::mac::Mac;
use dialtone::step3_boot_request::Part;
use dialtone::vendor::{self, Asked, Asker, VendorId};
use proptest::prelude::*;
use serde_json::Value;

use crate::fixtures::root;

fn rows(name: &str) -> Vec<Value> {
    let path = root().join("ident").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")))
        .collect()
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_default()
}

/// Our word for a maker of the data.
fn maker(name: &str) -> String {
    match name.to_ascii_lowercase().as_str() {
        "polycom" => "poly".to_owned(),
        // The same phones, whose maker was bought.
        "aastra" => "mitel".to_owned(),
        "linksys-spa" => "cisco".to_owned(),
        "alcatel-lucent-enterprise" => "alcatel-lucent".to_owned(),
        name => name.to_owned(),
    }
}

/// The labels that are overruled, by User-Agent, field and what is right, each with its reason.
const OVERRULED: &[(&str, &str, &str)] = &[
    // A string of options, not of a User-Agent: the version is in it, though the label has none.
    ("digium_D40_1_0_5_46476", "firmware", "1_0_5_46476"),
];

/// A text without case, spaces and dashes: a catalogue may write a model another way than its phone.
fn plain(text: &str) -> String {
    let kept = text.chars().filter(|c| !" -_".contains(*c));
    kept.collect::<String>().to_ascii_lowercase()
}

/// What was right, of how many.
#[derive(Default)]
struct Score {
    right: usize,
    of: usize,
    wrong: Vec<String>,
}

impl Score {
    fn note(&mut self, what: &str, found: &str, label: &str) {
        self.of += 1;
        if plain(found) == plain(label) {
            self.right += 1;
        } else {
            self.wrong
                .push(format!("{what}: {found:?} instead of {label:?}"));
        }
    }

    fn at_least(&self, percent: usize) -> bool {
        self.right * 100 >= self.of * percent
    }
}

#[test]
fn real_phones_are_recognised() {
    let samples = rows("ua_samples.jsonl");
    for kind in ["http", "sip_register", "dhcp_opt60"] {
        let mut scores: [Score; 5] = Default::default();
        let names = ["vendor", "model", "firmware", "mac", "serial"];
        for row in samples.iter().filter(|row| text(row, "kind") == kind) {
            let agent = text(row, "user_agent");
            let path = text(row, "path");
            let said = ident::identify(path, "", agent, "");
            let found = [
                said.vendor.map(|found| found.value),
                said.model.map(|found| found.value),
                said.firmware.map(|found| found.value),
                said.mac.map(|found| found.value.to_string()),
                said.serial.map(|found| found.value),
            ];
            for ((name, found), score) in names.iter().zip(found).zip(&mut scores) {
                let overruled = OVERRULED
                    .iter()
                    .find(|(of, field, _)| *of == agent && field == name);
                let mut label = text(row, name).to_owned();
                if let Some((_, _, right)) = overruled {
                    label = (*right).to_owned();
                }
                if *name == "vendor" {
                    label = maker(&label);
                }
                if *name == "mac" {
                    label = label.to_ascii_lowercase();
                }
                // Where there is nothing in the string there is nothing to be right about, but
                // nothing may be invented either.
                if *name == "model" && agent.is_empty() {
                    continue;
                }
                score.note(
                    &format!("{name} of {agent:?} {path}"),
                    &found.unwrap_or_default(),
                    &label,
                );
            }
        }
        for (name, score) in names.iter().zip(&scores) {
            println!("{kind}: {name} {} of {}", score.right, score.of);
            score.wrong.iter().for_each(|wrong| println!("  {wrong}"));
        }
        if kind == "http" {
            let least = [99, 97, 100, 100, 100];
            for ((name, score), least) in names.iter().zip(&scores).zip(least) {
                assert!(score.at_least(least), "{name}: {:#?}", score.wrong);
            }
        }
    }
}

#[test]
fn no_mac_is_read_out_of_what_has_none() {
    for row in rows("negative_uas.jsonl") {
        let agent = text(&row, "user_agent");
        assert_eq!(ident::agent(agent).mac, None, "{agent}");
    }
    for agent in [
        // Builds, hashes and dates of twelve digits.
        "Fanvil X4U 2.12.16.17-abcdef012345",
        "Fanvil X4U 2.12.16.17 build abcdef012345",
        "Yealink SIP-T46U 108.86.0.20 202511260130",
        "Gigaset N870 IP PRO/83.V2.11.0+build.a546b91c0de1",
        "Gigaset N870 IP PRO/83.V2.11.0+a546b91c0de1",
        "Mozilla/4.0 (compatible; snomD785-SIP 10.1.33.33 2010.12-00004-g9ba52f5a1b2c)",
        "Mozilla/4.0 (compatible; snomD785-SIP 10.1.33.33 2010.12-00004-9ba52f5a1b2c)",
        "Cisco-CP-8865-3PCC/12.0.3_d4e6994b-60bc-4fba-a490-fe5f8e74ceea",
        "Grandstream Model HW GXP2170 SW 100011200057",
        "Yealink-T46G 28.71.0.81 28.10.00.12.80.00",
        "Yealink SIP-T46U 0123456789ab",
        "AUDC-IPPhone/2.0.0_build_00908F3BBCBA (420HD)",
        "curl/8.5.0 abcdef012345",
        "Mozilla/5.0 (X11; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/115.0 0123456789ab",
        // Eleven, thirteen, and odd separators.
        "Yealink SIP-T46U 108.86.0.20 805ec000001",
        "Yealink SIP-T46U 108.86.0.20 805ec00000011",
        "Yealink SIP-T46U 108.86.0.20 80:5e:c0:00:0001",
        "Yealink SIP-T46U 108.86.0.20 80:5e-c0:00:00:01",
        "Yealink SIP-T46U 108.86.0.20 00:00:00:00:00:00",
        "Yealink SIP-T46U 108.86.0.20 x805ec0000001",
        "Grandstream Model HW GXP2170 SW 1.0.11.6 DevId 000b8200000",
        // A serial of twelve digits.
        "Linksys/SPA-962-6.1.5(a) (88019FA42805)",
        "Acme X1 1.2.3 (SN:123456789012)",
    ] {
        assert_eq!(ident::agent(agent).mac, None, "{agent}");
    }
}

/// User-Agents that the samples do not hold, as public logs and vendors' guides have them, and what
/// is in them: maker, model, firmware, MAC and serial.
const UNSEEN: &[(&str, &str)] = &[
    (
        "Yealink SIP-T56A  58.80.0.25 001565f429a4",
        "yealink|T56A|58.80.0.25|001565f429a4|",
    ),
    (
        "yealink sip-t46u 108.86.0.20 80-5E-C0-00-00-01",
        "yealink|T46U|108.86.0.20|805ec0000001|",
    ),
    (
        "Yealink SIP-T46U 108.86.0.20 805e.c000.0001",
        "yealink|T46U|108.86.0.20|805ec0000001|",
    ),
    (
        "Yealink SIP-T46U 805ec0000001",
        "yealink|T46U||805ec0000001|",
    ),
    (
        "Yealink SIP-T21P_E2 52.80.0.3 00:15:65:4c:4c:26",
        "yealink|T21P_E2|52.80.0.3|0015654c4c26|",
    ),
    (
        "Yealink SIP-W52P 25.73.0.20 00:15:65:40:ae:35",
        "yealink|W52P|25.73.0.20|00156540ae35|",
    ),
    (
        "W52P 25.30.0.2 00:15:65:44:b3:7c",
        "yealink|W52P|25.30.0.2|00156544b37c|",
    ),
    (
        "Yealink VP59 91.86.0.10 80:5e:c0:00:00:01",
        "yealink|VP59|91.86.0.10|805ec0000001|",
    ),
    (
        "Fanvil X6U Pro 0.0.10 0c383e2cd782",
        "fanvil|X6U Pro|0.0.10|0c383e2cd782|",
    ),
    (
        "FANVIL i10SV 2.12.10.1 0C:38:3E:23:97:F4",
        "fanvil|i10SV|2.12.10.1|0c383e2397f4|",
    ),
    (
        "Grandstream Model HW GXV3350  V1.3A SW 1.0.1.8 DevId c074ad150b88",
        "grandstream|GXV3350|1.0.1.8|c074ad150b88|",
    ),
    (
        "Grandstream GXP2000 (gxp2000e.bin:1.2.5.3/boot55e.bin:1.1.6.9) DevId 000b822726c8",
        "grandstream|GXP2000|1.2.5.3|000b822726c8|",
    ),
    (
        "Grandstream GXW4248 (DevId c074ad18429a / c074ad18429b)",
        "grandstream|GXW4248||c074ad18429a|",
    ),
    ("Grandstream HT802 1.0.17.5", "grandstream|HT802|1.0.17.5||"),
    (
        "FileTransport PolycomVVX-VVX_410-UA/5.9.5.0614 (SN:0004f2aabbcc) Type/Application",
        "poly|VVX410|5.9.5.0614|0004f2aabbcc|0004f2aabbcc",
    ),
    (
        "FileTransport PolycomSoundStationIP-SSIP_6000-UA/5.0.3.1667 Type/Updater",
        "poly|SSIP6000|5.0.3.1667||",
    ),
    (
        "FileTransport PolyEdge-Edge_E450-UA/8.0.0.15602 Type/Application",
        "poly|EdgeE450|8.0.0.15602||",
    ),
    (
        "FileTransport PolyCCX-CCX_500-UA/9.4.1.0508 (SN:64167f9f4c90) Type/Application",
        "poly|CCX500|9.4.1.0508|64167f9f4c90|64167f9f4c90",
    ),
    (
        "PolyEdge-Edge_E220-UA/8.0.0.13670_48256712b942",
        "poly|EdgeE220|8.0.0.13670|48256712b942|",
    ),
    ("Poly/CCX_600-UA/7.2.0.1234", "poly|CCX600|7.2.0.1234||"),
    (
        "Mozilla/4.0 (compatible; snom710-SIP 8.7.5.35 1.1.5-IFX-05.01.12 000413741767)",
        "snom|710|8.7.5.35|000413741767|",
    ),
    (
        "Mozilla/4.0 (compatible; snomD785-SIP 10.1.169.16 2010.12-00001-gd311851f1 (Feb 25 2019 - 14:19:43) 00041396D9B4 SXM:0 UXM:0 UXMC:0)",
        "snom|D785|10.1.169.16|00041396d9b4|",
    ),
    (
        "Mozilla/4.0 (compatible; Snom M900 05.20.0001 000413b60680)",
        "snom|M900|05.20.0001|000413b60680|",
    ),
    (
        "snomM700/03.23.0005 (MAC=00087B123456; SER=00123456; HW=255)",
        "snom|M700|03.23.0005|00087b123456|00123456",
    ),
    ("snomPA1/8.7.3.19", "snom|PA1|8.7.3.19||"),
    ("Mozilla/4.0 (compatible; snom lid 3605)", "snom||||"),
    (
        "Cisco-CP-8841-3PCC/11.0 (00562b043615)",
        "cisco|8841|11.0|00562b043615|",
    ),
    (
        "Cisco-CP-8841-3PCC/11.0.1 (00562b043615)(FCH1234A5BC)",
        "cisco|8841|11.0.1|00562b043615|FCH1234A5BC",
    ),
    (
        "Linksys/SPA-962-6.1.5(a) (4MM00F903042)",
        "cisco|SPA962|6.1.5(a)||4MM00F903042",
    ),
    ("Cisco Systems, Inc. IP Phone CP-7940G\0", "cisco|7940G|||"),
    (
        "Htek UC903 2.0.4.2 00:1f:c1:1c:22:a9",
        "htek|UC903|2.0.4.2|001fc11c22a9|",
    ),
    (
        "Gigaset N870 IP PRO/83.V2.11.0+build.a546b91;7C2F80E0D605",
        "gigaset|N870 IP PRO|83.V2.11.0+build.a546b91|7c2f80e0d605|",
    ),
    (
        "C610 IP/42.076.00.000.000;7C2F80112233;Handset=1",
        "gigaset|C610 IP|42.076.00.000.000|7c2f80112233|",
    ),
    (
        "Aastra57i MAC:00-08-5D-19-94-B7 V:2.3.1.26-SIP",
        "mitel|57i|2.3.1.26|00085d1994b7|",
    ),
    (
        "Mitel-5320-SIP-Phone 06.05.00.15 08000F74A222",
        "mitel|5320|06.05.00.15|08000f74a222|",
    ),
    (
        "Panasonic_KX-HDV230/07.001 (bcc342aabbcc)",
        "panasonic|KX-HDV230|07.001|bcc342aabbcc|",
    ),
    (
        "ALE M3-CE 2.11.01.1604 3c28a620089e",
        "alcatel-lucent|M3-CE|2.11.01.1604|3c28a620089e|",
    ),
    (
        "Mozilla/4.0 (compatible; MSIE 6.0) AVAYA/J139-4.0.7.1.5 (MAC:c81fea83e85a)",
        "avaya|J139|4.0.7.1.5|c81fea83e85a|",
    ),
    (
        "AUDC-IPPhone/2.2.8.61 (440HDG-Rev0; 00908F602AAC)",
        "audiocodes|440HDG|2.2.8.61|00908f602aac|",
    ),
    (
        "THOMSON ST2022 hw2 fw4.68 00-14-7F-E1-FC-6D",
        "technicolor|ST2022|4.68|00147fe1fc6d|",
    ),
    ("OBIHAI/OBi202-3.2.2.5921", "obihai|OBi202|3.2.2.5921||"),
    ("Digium D60 2_7_0", "digium|D60|2_7_0||"),
    (
        "Akuvox SP-R50P 50.0.3.105 0C1105A1B2C3",
        "akuvox|SP-R50P|50.0.3.105|0c1105a1b2c3|",
    ),
    (
        "Sangoma S500 V3.0.3.75 00:50:58:aa:bb:cc",
        "sangoma|S500|V3.0.3.75|005058aabbcc|",
    ),
    (
        "LinphoneAndroid/4.3.1 (Mi A2 Lite) LinphoneSDK/4.4.2 (tags/4.4.2^0)",
        "linphone|Linphone|4.3.1||",
    ),
    (
        "FileTransport PolycomSoundStationIP-SSIP_Duo-UA/4.0.0.1",
        "poly|SSIPDuo|4.0.0.1||",
    ),
    (
        "PolycomSpectraLink-SL_8440-UA/4.4.1.0226",
        "spectralink|SL_8440|4.4.1.0226||",
    ),
    (
        "Mozilla/4.0 (compatible; snomD865-SIP 10.1.184.15 arm 000413AABBCC)",
        "snom|D865|10.1.184.15|000413aabbcc|",
    ),
    (
        "Cisco/SPA112-1.3.5(004p) (CBT141400UK)",
        "cisco|SPA112|1.3.5(004p)||CBT141400UK",
    ),
    (
        "OpenScape Desk Phone CP600 V1 R1.9.2 SIP",
        "unify|CP600|1.9.2||",
    ),
    ("2N IP Verso 2.35.0.44.4", "2n|IP Verso|2.35.0.44.4||"),
    (
        "Avaya one-X Deskphone SIP 9608 6.5.0 (MAC:00040daabbcc)",
        "avaya|9608|6.5.0|00040daabbcc|",
    ),
    (
        "Aastra480i Cordless MAC:00-08-5D-19-94-B7 V:1.4.3.1001-SIP",
        "mitel|480i|1.4.3.1001|00085d1994b7|",
    ),
    ("RTX8660 03.00 00087b112233", "rtx|8660|03.00|00087b112233|"),
    ("Algorithm/1.2", "||||"),
    ("", "||||"),
    // Of an unknown maker: what can be nothing else.
    ("Acme X1 1.2.3 MAC:0011223344aa", "|||0011223344aa|"),
    ("Acme X1 1.2.3 00:11:22:33:44:aa", "|||0011223344aa|"),
];

#[test]
fn phones_that_the_samples_do_not_hold_are_recognised_by_the_same_grammar() {
    for (agent, expected) in UNSEEN {
        let said = ident::agent(agent);
        let mac = said.mac.map(|mac| mac.to_string()).unwrap_or_default();
        let model = said.model.unwrap_or_default();
        let found = [
            said.vendor.unwrap_or_default(),
            &model,
            said.firmware.unwrap_or_default(),
            &mac,
            said.serial.unwrap_or_default(),
        ];
        assert_eq!(plain(&found.join("|")), plain(expected), "{agent}");
    }
}

#[test]
fn the_mac_of_a_request_is_the_one_that_is_in_it() {
    for row in rows("request_paths.jsonl") {
        let (path, query) = text(&row, "path")
            .split_once('?')
            .unwrap_or((text(&row, "path"), ""));
        let said = ident::identify(path, query, "", "");
        let mac = said
            .mac
            .map(|found| found.value.to_string())
            .unwrap_or_default();
        // Another phone's name has that phone's MAC.
        let expected = match text(&row, "expect") {
            "reject:other-mac" => "805ec0ddeeff",
            _ => text(&row, "mac"),
        };
        assert_eq!(mac, expected, "{row}");
        let maker = maker(text(&row, "vendor"));
        if let (Some(found), false) = (said.vendor, maker.is_empty())
            && found.from == Source::Path
            && !text(&row, "expect").starts_with("reject")
        {
            assert_eq!(found.value, maker, "{row}");
        }
    }
}

/// The rows that are about what a vendor's phone gets: the device is 805ec0aabbcc. It looks at the
/// vendors that are there.
#[test]
fn a_vendors_phone_gets_what_its_firmware_asks_for_and_nothing_else() {
    let mac: Mac = "805ec0aabbcc".parse().expect("a MAC");
    let mut looked_at = 0;
    for row in rows("request_paths.jsonl") {
        let own = maker(text(&row, "vendor"));
        let Some(id) = VendorId::ALL.iter().find(|id| id.name() == own) else {
            continue;
        };
        let Some(model) = row["model"].as_str() else {
            continue;
        };
        looked_at += 1;
        let expect = text(&row, "expect");
        let Some(model) = vendor::model(*id, model) else {
            assert_eq!(expect, "reject:unknown-model", "{row}");
            continue;
        };
        assert_ne!(expect, "reject:unknown-model", "{row}");
        let phone = Asker {
            mac,
            model,
            firmware: None,
        };
        let path = text(&row, "path");
        let asked = id.rules().asked(path.trim_start_matches('/'), phone);
        let good = match expect {
            "boot" => asked == Some(Asked::Part(Part::Boot)),
            "common" | "device" => matches!(asked, Some(Asked::Part(_))),
            "upload" => matches!(asked, Some(Asked::Kept | Asked::Dropped | Asked::Part(_))),
            other if other.starts_with("other") => true,
            other if other.starts_with("reject") => asked.is_none(),
            other => panic!("{other} is no kind: {row}"),
        };
        assert!(good, "{row}: {asked:?}");
    }
    assert!(looked_at > 0);
}

#[test]
fn the_first_half_of_a_mac_is_a_hint_at_its_maker() {
    let path = root().join("ident/oui.json");
    let text = fs::read_to_string(path).expect("readable");
    let ouis: Value = serde_json::from_str(&text).expect("JSON");
    for (oui, name) in ouis.as_object().expect("an object") {
        let mac: Mac = format!("{oui}000001").parse().expect("a MAC");
        let name = maker(name.as_str().expect("a name"));
        assert_eq!(ident::of_mac(mac), Some(name.as_str()), "{oui}");
    }
    let said = ident::identify("/rps/805ec0000001.cfg", "", "", "");
    assert_eq!(said.vendor.map(|found| found.from), Some(Source::Oui));
    // It contradicts nothing: makers sell each other's devices.
    let said = ident::identify("/spa001565000000.xml", "", "", "");
    assert_eq!(
        said.vendor.map(|found| found.value).as_deref(),
        Some("cisco")
    );
    assert_eq!(said.contradictions, []);
}

#[test]
fn every_value_says_where_it_came_from_and_what_contradicts_it() {
    let said = ident::identify(
        "/rps/sn/S-12345/snomD785-000413AABBCC.htm",
        "mac=000413aabbcc&model=d785&serial=s-12345",
        "Mozilla/4.0 (compatible; snomD735-SIP 10.1.33.33 2010.12-00004-g9ba52f5 000413922D24 SXM:0)",
        "CN=000413AABBCC,O=snom technology AG,L=Berlin,C=DE",
    );
    assert_eq!(
        serde_json::to_value(&said).expect("JSON"),
        serde_json::json!({
            "mac": { "value": "000413aabbcc", "from": "path" },
            "vendor": { "value": "snom", "from": "path" },
            "model": { "value": "D735", "from": "user_agent" },
            "firmware": { "value": "10.1.33.33", "from": "user_agent" },
            "serial": { "value": "S-12345", "from": "path" },
            "contradictions": [
                { "field": "model", "values": [
                    { "value": "D735", "from": "user_agent" },
                    { "value": "D785", "from": "path" },
                ] },
                { "field": "model", "values": [
                    { "value": "D735", "from": "user_agent" },
                    { "value": "d785", "from": "query" },
                ] },
                { "field": "mac", "values": [
                    { "value": "000413aabbcc", "from": "path" },
                    { "value": "000413922d24", "from": "user_agent" },
                ] },
            ],
        })
    );
    let nobody = ident::identify("/favicon.ico", "", "curl/8.5.0", "");
    assert_eq!(nobody, ident::Identity::default());
}

/// Whether a MAC stands in one of the texts: twelve digits with nothing but separators in between.
fn stands_in(mac: Mac, text: &str) -> bool {
    let digits = mac.to_string();
    let bytes = text.as_bytes();
    (0..bytes.len()).any(|start| {
        let mut expected = digits.bytes().peekable();
        for byte in &bytes[start..] {
            let Some(next) = expected.peek() else {
                break;
            };
            if byte.eq_ignore_ascii_case(next) {
                expected.next();
            } else if !b":-._".contains(byte) {
                return false;
            }
        }
        expected.peek().is_none()
    })
}

proptest! {
    #[test]
    fn no_input_panics_and_no_mac_is_made_up(
        agent in "((Yealink|Fanvil|Cisco/|snom|FileTransport Poly|SmartNode|AUDC-IPPhone|Grandstream|Linksys/|N510 IP|digium|\\PC{0,8})[\\PC]{0,20}([ /:;(_.-]([0-9a-fA-F]{12}|([0-9a-f]{2}[:.-]){5}[0-9a-f]{2}|[0-9.]{1,9}|\\PC{0,6})){0,6})",
        path in "/(rps/)?([a-z]{0,6}[-_]?)([0-9a-fA-F]{12}|([0-9a-f]{2}[:_-]){5}[0-9a-f]{2}|\\PC{0,20}|%[0-9a-f]{2})[.-]?\\PC{0,8}",
        query in "(mac=[0-9a-f:]{0,17}&?)?\\PC{0,20}",
        subject in "/?((CN|ST|O|L|2\\.5\\.4\\.3)? ?= ?(cisco|snom|\"|\\\\|[0-9a-f]{12}|MAC: |\\PC{0,6}){0,4}[,+/;]?){0,5}",
    ) {
        if let Some(mac) = ident::agent(&agent).mac {
            prop_assert!(stands_in(mac, &agent), "{mac} in {agent:?}");
        }
        if let Some(mac) = ident::file(&path).mac {
            prop_assert!(stands_in(mac, &path), "{mac} in {path:?}");
        }
        if let Some(mac) = ident::certificate(&subject).mac {
            prop_assert!(stands_in(mac, &subject), "{mac} in {subject:?}");
        }
        let said = ident::identify(&path, &query, &agent, &subject);
        let firmware = said.firmware.map(|found| found.value).unwrap_or_default();
        prop_assert!(agent.contains(&firmware));
    }

    #[test]
    fn a_phone_is_read_back_as_it_was_written(
        maker in prop::sample::select(vec!["Yealink SIP-", "Fanvil ", "Htek ", "Akuvox ", "Flyingvoice "]),
        model in "[A-Z][0-9]{2}[A-Z]",
        firmware in "[1-9][0-9]{0,2}(\\.[0-9]{1,3}){2,3}",
        mac in "[0-9a-f]{2}[1-9a-f][0-9a-f]{8}[a-f]",
        upper in any::<bool>(),
        form in 0_usize..3,
    ) {
        let pairs: Vec<&str> = (0..6).map(|n| &mac[2 * n..2 * n + 2]).collect();
        let written = [mac.clone(), pairs.join(":"), pairs.join("-")][form].clone();
        let written = if upper { written.to_ascii_uppercase() } else { written };
        let agent = format!("{maker}{model} {firmware} {written}");
        let said = ident::agent(&agent);
        prop_assert_eq!(said.mac.map(|mac| mac.to_string()), Some(mac));
        prop_assert_eq!(said.firmware, Some(firmware.as_str()));
        prop_assert_eq!(said.model.unwrap_or_default().to_ascii_uppercase(), model);
    }
}

/// A pass over 16 KB is nothing; a square of it would be a quarter of a billion steps, which these
/// unoptimised loops of a thousand calls would not get through.
#[test]
fn long_inputs_cost_no_more_than_one_pass() {
    for unit in [
        "1",
        "1.",
        "1.1.",
        "a-",
        "(",
        "_1",
        "SN:",
        "=",
        "CN=a,",
        "\\",
        "\\x41",
        "/CN=a",
        "\"",
        "1-",
        "00:",
        "805ec0000001-",
        "Yealink ",
        "snom",
        "IPPhone-",
        "Model:",
        "mac=805ec0000001&",
        "ü",
        "%41",
        " ",
    ] {
        let long = unit.repeat(16 * 1024 / unit.len());
        for _ in 0..20 {
            for start in ["", "Cisco/", "Yealink SIP-T46U 1.2.3 ", "/", "CN="] {
                let text = format!("{start}{long}");
                let _ = ident::identify(&text, &text, &text, &text);
            }
        }
    }
}
