//! From the box to the configured phone, each way that phones go: by boot file, by common and MAC
//! file, by Linphone's chain of documents; and the questions that others ask the RPS.

use serde_json::json;

use crate::office::{Office, fetch, fresh_source};
use crate::phone::SoftPhone;

#[test]
fn a_yealink_finds_its_way_from_the_rps_to_its_account_by_the_files_alone() {
    let office = Office::open("flow-boot");
    let made = office.yealink(&json!({
        "arm": "24h",
        "user_type": "hot-desking",
        "buttons": [{"key": 2, "type": "blf", "value": "1002", "label": "Reception", "line": 1}],
        "settings": {"timezone": "Europe/Berlin"},
    }));
    office.wait_for(&made, "unseen");

    let mut phone = office.unbox(&made);
    let applied = phone.switch_on().unwrap();
    assert_eq!(applied, ["first.cfg", "ACC.cfg", "BTN.cfg"]);
    assert_eq!(phone.setting("account.1.user_name"), "1001");
    assert_eq!(phone.setting("account.1.password"), office.password("1001"));
    assert_eq!(
        phone.setting("account.1.sip_server.1.address"),
        "sip.example.com"
    );
    assert_eq!(phone.setting("account.1.display_name"), "Number 1001");
    assert_eq!(phone.setting("linekey.2.label"), "Reception");
    assert_eq!(phone.setting("local_time.time_zone"), "+1");
    office.wait_for(&made, "configured");

    // From now on it does without the RPS, and its boot file says whose phone it is.
    assert_eq!(phone.server, made.base());
    phone.asked.clear();
    phone.switch_on().unwrap();
    for url in &phone.asked {
        assert!(
            url.starts_with(made.base()),
            "asked {url} after it was told {}",
            made.base()
        );
    }
    let boot = made.fetch("boot.cfg").text();
    assert!(boot.contains("user type hot-desking"), "{boot}");
}

#[test]
fn a_yealink_of_old_firmware_gets_there_by_its_common_and_its_mac_file() {
    let office = Office::open("flow-old");
    let made = office.yealink(&json!({"model": "T46G", "arm": "24h"}));
    let mut phone = office.unbox(&made);

    phone.switch_on_before_81(28).unwrap();
    assert_eq!(phone.server, made.base());
    assert_eq!(
        phone.setting("account.1.password"),
        "",
        "the RPS gave a SIP secret"
    );
    // It does not follow includes, so it must ask again by itself, and soon.
    assert_eq!(phone.setting("auto_provision.repeat.enable"), "1");
    let minutes: u32 = phone
        .setting("auto_provision.repeat.minutes")
        .parse()
        .unwrap();
    assert!(minutes <= 10, "comes again in {minutes} minutes");
    office.wait_for(&made, "redirected");

    phone.switch_on_before_81(28).unwrap();
    assert_eq!(phone.setting("account.1.password"), office.password("1001"));
    office.wait_for(&made, "configured");
}

#[test]
fn a_common_file_is_the_same_for_everyone_and_names_nobody() {
    let office = Office::open("flow-common");
    let made = office.yealink(&json!({"arm": "24h"}));
    let unarmed = office.yealink(&json!({}));
    for name in ["/y000000000108.cfg", "/y000000000000.boot"] {
        let strangers = office.rps(name).send().unwrap();
        assert_eq!(strangers.status, 200, "{name}: {}", strangers.text());
        let text = strangers.text();
        for secret in [&made.mac, &made.serial, &office.id, "/p/"] {
            assert!(
                !text.contains(secret),
                "{secret:?} stands in {name}: {text}"
            );
        }
        // A phone that says who it is, and proves nothing.
        let agent = format!("Yealink SIP-T46U 108.86.0.20 {}", unarmed.mac);
        let known = office.rps(name).user_agent(&agent).send().unwrap();
        assert_eq!(known.text(), text, "{name} differs by who asks");
    }
    // None of that was a claim.
    assert!(office.status(&made)["window"]["claim"].is_null());
}

#[test]
fn a_linphone_is_chained_from_the_rps_to_its_account() {
    let office = Office::open("flow-linphone");
    let made = office.linphone(&json!({}));
    // As an admin hands it out: the key, and the name that the phone knows by itself.
    for name in [format!("{}.xml", made.mac), "linphone.xml".to_owned()] {
        let mut phone = SoftPhone::new(&format!("{}{name}", made.first_access()), fresh_source());
        phone.start().unwrap();
        assert_eq!(phone.config_uri, format!("{}{}.xml", made.base(), made.mac));
        assert_eq!(
            phone.settings.len(),
            1,
            "the redirect sets more than a URI: {phone:?}"
        );

        phone.start().unwrap();
        assert_eq!(phone.config_uri, format!("{}{}.xml", made.base(), made.mac));
        assert_eq!(phone.setting("auth_info_0/username"), "1002");
        assert_eq!(phone.setting("auth_info_0/algorithm"), "MD5");
        let ha1 = phone.setting("auth_info_0/ha1");
        assert!(
            ha1.len() == 32 && ha1.bytes().all(|b| b.is_ascii_hexdigit()),
            "{ha1:?}"
        );
        assert!(
            phone
                .setting("proxy_0/reg_identity")
                .contains("<sip:1002@sip.example.com>"),
            "{phone:?}"
        );
    }
    office.wait_for(&made, "configured");
}

#[test]
fn the_look_up_answers_in_json_in_text_and_by_redirect() {
    let office = Office::open("flow-look-up");
    let made = office.yealink(&json!({}));
    let boot = format!("{}.boot", made.mac);
    let spelled = made
        .mac
        .to_uppercase()
        .as_bytes()
        .chunks(2)
        .fold(String::new(), |text, pair| {
            let colon = if text.is_empty() { "" } else { ":" };
            text + colon + std::str::from_utf8(pair).unwrap()
        });
    for mac in [made.mac.clone(), spelled, made.mac.to_uppercase()] {
        let question = format!("?mac={mac}&serial={}", made.serial);
        let answer = office.rps(&question).send().unwrap();
        assert_eq!(answer.status, 200, "{question}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let expected = json!({
            "mac": made.mac, "vendor": "yealink", "model": "T46U", "url": made.base(), "boot": boot,
        });
        assert_eq!(answer.json::<serde_json::Value>().unwrap(), expected);

        let answer = office
            .rps(&question)
            .header("Accept", "text/plain")
            .send()
            .unwrap();
        assert_eq!(
            (answer.status, answer.text()),
            (200, format!("{}\n", made.base()))
        );

        let answer = office
            .rps(&format!("{question}&redirect=302"))
            .send()
            .unwrap();
        let location = format!("{}{boot}", made.base());
        assert_eq!(
            (answer.status, answer.header("location")),
            (302, Some(location.as_str()))
        );
    }
}

#[test]
fn a_key_in_the_path_is_as_good_as_a_serial_in_it() {
    let office = Office::open("flow-key");
    let made = office.yealink(&json!({}));
    let by_key = fetch(made.first_access(), &format!("{}.boot", made.mac));
    let by_serial = office
        .rps(&format!("/sn/{}/{}.boot", made.serial, made.mac))
        .send()
        .unwrap();
    assert_eq!(by_key.status, 200, "{}", by_key.text());
    assert_eq!(by_key.text(), by_serial.text());
    assert!(by_key.text().contains(made.base()), "{}", by_key.text());
    // The key shows who asks, so a common name is enough under it.
    assert_eq!(
        fetch(made.first_access(), "y000000000000.boot").text(),
        by_key.text()
    );
    // It is shown again to an admin who asks for it, and only then.
    let path = format!("devices/{}", made.mac);
    assert_eq!(office.admin.get(&path)["first_access"], json!(null));
    let shown = &office.admin.get(&format!("{path}?secrets=1"))["first_access"];
    assert_eq!(shown, &made.answer["first_access"]);
}

#[test]
fn a_rule_sends_a_phone_elsewhere_and_the_more_specific_one_wins() {
    let office = Office::open("flow-rule");
    let made = office.yealink(&json!({"site": "berlin"}));
    let rule = |id: &str, matches: serde_json::Value, url: &str| {
        office.admin.put(
            &format!("rules/flow-rule-{id}"),
            &json!({"match": matches, "url": url}),
        );
    };
    rule(
        "a",
        json!({"tenant": "flow-rule"}),
        "https://a.example.com/{mac}/",
    );
    assert_eq!(
        office.look_up(&made)["url"],
        format!("https://a.example.com/{}/", made.mac)
    );
    let site = json!({"tenant": "flow-rule", "site": "Berlin"});
    rule("b", site, "https://b.example.com/{vendor}/{model}/{serial}");
    let expected = format!("https://b.example.com/yealink/T46U/{}/", made.serial);
    assert_eq!(office.look_up(&made)["url"], expected);

    // The phone is taken on to the other server without a file of ours that holds a secret.
    let boot = office
        .rps(&format!("/sn/{}/{}.boot", made.serial, made.mac))
        .send()
        .unwrap()
        .text();
    assert!(
        boot.contains(&format!("{expected}{}.cfg", made.mac)),
        "{boot}"
    );
    let settings = made.fetch("redirect.cfg").text();
    let line = format!("static.auto_provision.server.url = {expected}\n");
    assert!(
        settings.contains(&line) && !settings.contains("password"),
        "{settings}"
    );

    for id in ["a", "b"] {
        office.admin.delete(&format!("rules/flow-rule-{id}"));
    }
    assert_eq!(office.look_up(&made)["url"], made.base());
}
