//! Phones that are told to fetch again, and who is registered from where: runs a minute apart and the
//! admin API, against the AMI of `asterisk`.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use dialtone::key;
use dialtone::ports::{NoAnswer, Objects, Only};
use dialtone::resync::SPREAD_S;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::ask::{call, fetch, follow, get, json_of, patch, put};
use crate::asterisk::{AMI_PASSWORD, AMI_USER, AmiMood, Mood};
use crate::reconcile::Scene;
use crate::world::{Failing, block_on};

const DESK: &str = "805ec0000001";
const OTHER: &str = "805ec0000002";
const AGENT: &str = "Yealink SIP-T46U 108.86.0.20 805ec0000001";
const EVENT: &str = "check-sync;reboot=false";

fn ami() -> Value {
    json!({ "ami": {
        "url": "https://pbx.example", "username": AMI_USER, "password": AMI_PASSWORD,
    } })
}

fn device(account: &str) -> Value {
    json!({
        "tenant": "acme", "vendor": "yealink", "model": "T46U",
        "lines": [{ "line": 1, "account": format!("acme-{account}") }],
    })
}

/// A PBX with AMI, two accounts there, and a phone that fetched its files and is registered.
fn office() -> (Scene, String) {
    let scene = Scene::with_accounts(&["1001", "1002"]);
    patch(&scene.fake, "pbxes/main", &ami());
    let base = phone(&scene, DESK, "1001");
    scene.main();
    scene
        .asterisk
        .registers_from("1001", "sip:1001@10.0.0.7:5060", AGENT);
    // What the saves of the PBX had made again is done.
    for _ in 0..8 {
        scene.main();
    }
    scene.asterisk.take_calls();
    assert_eq!(scene.asterisk.take_notified(), [""; 0]);
    (scene, base)
}

/// A phone that fetched its files.
fn phone(scene: &Scene, mac: &str, account: &str) -> String {
    let made = put(&scene.fake, &format!("devices/{mac}"), &device(account));
    let base = made["provisioning_url"].as_str().unwrap().to_owned();
    fetches(scene, &base);
    base
}

fn fetches(scene: &Scene, base: &str) {
    for name in ["boot.cfg", "ACC.cfg", "BTN.cfg"] {
        let answer = fetch(&scene.fake, &follow(&format!("{base}{name}")));
        assert_eq!(answer.status(), StatusCode::OK);
    }
}

fn status(scene: &Scene, mac: &str) -> Value {
    let path = format!("devices/{mac}/status");
    json_of(&call(&scene.fake, Method::GET, &path, &Value::Null))
}

fn state(scene: &Scene) -> String {
    let status = status(scene, DESK);
    status["resync"]["state"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn relabel(scene: &Scene, mac: &str, label: &str) {
    let buttons = json!([{ "key": 1, "type": "speed_dial", "value": "4711", "label": label }]);
    patch(
        &scene.fake,
        &format!("devices/{mac}"),
        &json!({ "buttons": buttons }),
    );
}

fn resync(scene: &Scene, mac: &str) -> Response<Vec<u8>> {
    call(
        &scene.fake,
        Method::POST,
        &format!("devices/{mac}/resync"),
        &json!({}),
    )
}

fn result(scene: &Scene, mac: &str) -> String {
    let answer = json_of(&resync(scene, mac));
    answer["lines"][0]["result"].as_str().unwrap().to_owned()
}

#[test]
fn a_phone_is_told_once_of_its_new_files_and_what_it_fetched_is_seen() {
    let (scene, base) = office();
    assert_eq!(state(&scene), "");
    relabel(&scene, DESK, "Front");
    assert_eq!(state(&scene), "waiting");
    scene.main();
    assert_eq!(scene.asterisk.take_notified(), [format!("1001: {EVENT}")]);
    // The PBX took it: that is not yet that the phone fetched.
    assert_eq!(state(&scene), "sent to the PBX");
    for _ in 0..10 {
        scene.main();
        // The same again makes no new files.
        relabel(&scene, DESK, "Front");
    }
    assert_eq!(scene.asterisk.take_notified(), [""; 0]);
    assert_eq!(state(&scene), "sent to the PBX");
    fetches(&scene, &base);
    assert_eq!(state(&scene), "fetched");
    // The next change is another version.
    relabel(&scene, DESK, "Back");
    scene.main();
    assert_eq!(scene.asterisk.take_notified().len(), 1);
    assert_eq!(scene.fake.r2.keys("resync/"), [""; 0]);
    scene.keeps_secrets();
    assert!(!scene.fake.logged().contains("ami&secret"));
    let kept = String::from_utf8_lossy(&scene.fake.dump()).into_owned();
    assert!(!kept.contains(AMI_PASSWORD));
}

#[test]
fn a_phone_that_fetched_by_itself_or_never_came_is_not_told() {
    let (scene, base) = office();
    relabel(&scene, DESK, "Front");
    fetches(&scene, &base);
    put(&scene.fake, &format!("devices/{OTHER}"), &device("1002"));
    relabel(&scene, OTHER, "Front");
    assert_eq!(scene.fake.r2.keys("resync/"), [format!("resync/{DESK}")]);
    scene.main();
    assert_eq!(scene.asterisk.take_notified(), [""; 0]);
    assert_eq!(scene.fake.r2.keys("resync/"), [""; 0]);
}

#[test]
fn a_phone_in_a_call_is_told_when_it_is_over() {
    let (scene, _) = office();
    scene.asterisk.speaks("1001", true);
    relabel(&scene, DESK, "Front");
    for _ in 0..5 {
        scene.main();
        assert_eq!(scene.asterisk.take_notified(), [""; 0]);
        assert_eq!(state(&scene), "waiting (in a call)");
    }
    assert_eq!(result(&scene, DESK), "in a call");
    scene.asterisk.speaks("1001", false);
    scene.main();
    assert_eq!(scene.asterisk.take_notified().len(), 1);
    assert_eq!(state(&scene), "sent to the PBX");
}

#[test]
fn a_phone_that_is_not_registered_is_left_to_its_poll() {
    let (scene, _) = office();
    scene.asterisk.unregisters("1001");
    relabel(&scene, DESK, "Front");
    scene.main();
    assert_eq!(state(&scene), "left to its poll");
    assert_eq!(result(&scene, DESK), "not registered");
    scene.asterisk.registers("1001");
    scene.main();
    assert_eq!(scene.asterisk.take_notified(), [""; 0]);
    // Without AMI there is nothing else.
    patch(&scene.fake, "pbxes/main", &json!({ "ami": null }));
    relabel(&scene, DESK, "Back");
    scene.main();
    assert_eq!(state(&scene), "no AMI");
    assert_eq!(result(&scene, DESK), "the PBX has no AMI");
}

#[test]
fn a_pbx_that_fails_is_tried_again_and_says_so() {
    for (mood, says) in [
        (AmiMood::Denied, "the AMI user lacks write=system"),
        (AmiMood::Page, "not an answer of AMI"),
        (AmiMood::Frozen, "timed out"),
    ] {
        let (scene, _) = office();
        scene.asterisk.ami_is(mood);
        relabel(&scene, DESK, "Front");
        scene.main();
        scene.main();
        assert_eq!(
            state(&scene),
            "waiting (the PBX gave no clear answer)",
            "{mood:?}"
        );
        let expected = format!("the PBX did not take it: {says}");
        assert_eq!(result(&scene, DESK), expected);
        scene.asterisk.ami_is(AmiMood::Up);
        scene.main();
        assert_eq!(scene.asterisk.take_notified().len(), 1, "{mood:?}");
    }
    for mood in Mood::BAD {
        let (scene, _) = office();
        scene.asterisk.is(mood);
        relabel(&scene, DESK, "Front");
        scene.minute();
        let answer = result(&scene, DESK);
        assert!(
            answer.starts_with("the PBX gave no clear answer: "),
            "{mood:?} {answer}"
        );
        assert_eq!(
            state(&scene),
            "waiting (the PBX gave no clear answer)",
            "{mood:?}"
        );
        scene.asterisk.is(Mood::Up);
        scene.main();
        assert_eq!(scene.asterisk.take_notified().len(), 1, "{mood:?}");
    }
    // For a day.
    let (scene, _) = office();
    scene.asterisk.ami_is(AmiMood::Denied);
    relabel(&scene, DESK, "Front");
    scene.fake.clock.pass_s(86_400);
    scene.main();
    assert_eq!(state(&scene), "left to its poll");
}

#[test]
fn an_admin_has_it_done_now_and_hears_what_happened() {
    let (scene, _) = office();
    assert_eq!(result(&scene, DESK), "sent to the PBX");
    // As often as it is wanted.
    assert_eq!(result(&scene, DESK), "sent to the PBX");
    assert_eq!(scene.asterisk.take_notified().len(), 2);
    assert_eq!(scene.fake.audited("device.resynced").len(), 2);
    let with = |path: &str, body: &Value| {
        let path = format!("devices/{path}");
        call(&scene.fake, Method::POST, &path, body)
            .status()
            .as_u16()
    };
    assert_eq!(with(&format!("{DESK}/resync?force=1"), &json!({})), 400);
    assert_eq!(
        with(&format!("{DESK}/resync"), &json!({ "force": true })),
        422
    );
    assert_eq!(with(&format!("{OTHER}/resync"), &json!({})), 404);
    assert_eq!(scene.asterisk.take_notified(), [""; 0]);
    // One NOTIFY is enough for a phone.
    let lines = json!({ "lines": [
        { "line": 1, "account": "acme-1001" }, { "line": 2, "account": "acme-1002" },
    ] });
    patch(&scene.fake, &format!("devices/{DESK}"), &lines);
    scene.main();
    scene.asterisk.take_notified();
    scene.asterisk.registers("1002");
    let answer = json_of(&resync(&scene, DESK));
    assert_eq!(answer["lines"][0]["result"], "sent to the PBX");
    assert_eq!(answer["lines"][1]["result"], "told by another line");
    assert_eq!(answer["lines"][1]["pbx"], "main");
    assert_eq!(scene.asterisk.take_notified().len(), 1);
    // A call on either line keeps it from both.
    scene.asterisk.speaks("1002", true);
    assert_eq!(result(&scene, DESK), "in a call");
}

#[test]
fn of_phones_that_share_an_account_one_is_told_by_its_own_contact() {
    let (scene, _) = office();
    phone(&scene, OTHER, "1001");
    for _ in 0..8 {
        scene.main();
    }
    scene.asterisk.take_notified();
    let shown = |mac: &str| status(&scene, mac)["lines"][0]["state"].clone();
    // By the User-Agent it is known whose contact there is.
    assert_eq!(
        (shown(DESK), shown(OTHER)),
        ("online".into(), "offline".into())
    );
    relabel(&scene, DESK, "Front");
    relabel(&scene, OTHER, "Front");
    scene.main();
    assert_eq!(
        scene.asterisk.take_notified(),
        [format!("sip:1001@10.0.0.7:5060: {EVENT}")]
    );
    assert_eq!(status(&scene, OTHER)["resync"]["state"], "left to its poll");
    // A phone that does not say who it is could be either.
    scene
        .asterisk
        .registers_from("1001", "sip:1001@10.0.0.9", "softphone");
    for _ in 0..5 {
        scene.main();
    }
    assert_eq!(
        (shown(DESK), shown(OTHER)),
        ("online".into(), "shared".into())
    );
    assert_eq!(
        result(&scene, OTHER),
        "not known to be registered: the account is shared"
    );
    // Without AMI nobody can tell.
    patch(&scene.fake, "pbxes/main", &json!({ "ami": null }));
    assert_eq!(
        (shown(DESK), shown(OTHER)),
        ("shared".into(), "shared".into())
    );
}

#[test]
fn contacts_are_looked_at_now_and_then_and_kept_when_they_change() {
    let (scene, _) = office();
    let kept = || scene.fake.objects("pbx-contacts/");
    let before = kept();
    assert_eq!(before[0]["1001"][0]["mac"], DESK);
    assert_eq!(before[0]["1001"][0]["uri"], "sip:1001@10.0.0.7:5060");
    let mut looks = 0;
    for _ in 0..20 {
        scene.main();
        let calls = scene.asterisk.take_calls();
        looks += calls
            .iter()
            .filter(|call| *call == "AMI PJSIPShowContacts")
            .count();
    }
    assert_eq!((looks, kept()), (4, before.clone()));
    // What may be a failure is not that nobody is registered.
    for mood in [
        AmiMood::Denied,
        AmiMood::Half,
        AmiMood::Page,
        AmiMood::Frozen,
    ] {
        scene.asterisk.ami_is(mood);
        for _ in 0..5 {
            scene.main();
        }
        assert_eq!(kept(), before, "{mood:?}");
    }
    scene.asterisk.ami_is(AmiMood::Up);
    // When somebody goes or comes it is looked at once.
    scene.asterisk.unregisters("1001");
    scene.asterisk.forgets("sip:1001@10.0.0.7:5060");
    scene.main();
    assert_eq!(kept(), [json!({})]);
    patch(&scene.fake, "pbxes/main", &json!({ "ami": null }));
    assert_eq!(kept(), Vec::<Value>::new());
}

#[test]
fn an_odd_registration_is_on_the_status_and_in_the_audit() {
    let (scene, base) = office();
    assert_eq!(status(&scene, DESK)["findings"], Value::Null);
    // It fetches from one network and registers from another.
    relabel(&scene, DESK, "Front");
    let mut request = follow(&format!("{base}ACC.cfg"));
    request.source.address = "198.51.100.7".to_owned();
    fetch(&scene.fake, &request);
    scene.asterisk.forgets("sip:1001@10.0.0.7:5060");
    scene
        .asterisk
        .registers_from("1001", "sip:1001@203.0.113.9:5060", AGENT);
    // So does somebody with its password and a phone of his own.
    let foreign = "Fanvil X5U-V2 2.12.16.17 0c383e32c10d";
    scene
        .asterisk
        .registers_from("1001", "sip:1001@203.0.113.10", foreign);
    for _ in 0..5 {
        scene.main();
    }
    let findings = status(&scene, DESK)["findings"].clone();
    assert_eq!(
        findings,
        json!([
            { "line": 1, "what": "other_mac", "mac": "0c383e32c10d", "address": "203.0.113.10" },
            { "line": 1, "what": "elsewhere", "address": "203.0.113.9", "fetched_from": "198.51.100.7" },
        ])
    );
    let entries = json_of(&call(
        &scene.fake,
        Method::GET,
        "audit?tenant=acme&action=registration.odd",
        &Value::Null,
    ));
    let entries = entries["items"].as_array().unwrap().clone();
    assert!(!entries.is_empty(), "nothing in the audit");
    assert_eq!(entries[0]["resource"], format!("devices/{DESK}"));
    for _ in 0..10 {
        scene.main();
    }
    let again = json_of(&call(
        &scene.fake,
        Method::GET,
        "audit?tenant=acme&action=registration.odd",
        &Value::Null,
    ));
    assert_eq!(again["items"].as_array().unwrap().len(), entries.len());
}

#[test]
fn a_changed_profile_reaches_its_phones_and_no_others_with_spread() {
    let scene = Scene::new();
    patch(&scene.fake, "pbxes/main", &ami());
    let profile = |zone: &str| json!({ "tenant": "acme", "settings": { "timezone": zone } });
    put(&scene.fake, "profiles/office", &profile("Europe/Berlin"));
    let count = 60_u32;
    let mac = |n: u32| format!("805ec00001{n:02x}");
    for n in 0..count {
        let account = crate::reconcile::account(&format!("2{n:03}"));
        put(&scene.fake, &format!("accounts/acme-2{n:03}"), &account);
        let mut device = device(&format!("2{n:03}"));
        // Every other one has the profile.
        if n % 2 == 0 {
            device["profile"] = json!("office");
        }
        let made = put(&scene.fake, &format!("devices/{}", mac(n)), &device);
        let base = made["provisioning_url"].as_str().unwrap().to_owned();
        fetches(&scene, &base);
    }
    for _ in 0..12 {
        scene.main();
    }
    for n in 0..count {
        scene.asterisk.registers(&format!("2{n:03}"));
    }
    for _ in 0..4 {
        scene.main();
    }
    assert_eq!(scene.fake.r2.keys("regenerate/"), [""; 0]);
    scene.asterisk.take_notified();
    patch(&scene.fake, "profiles/office", &profile("Europe/Paris"));
    patch(&scene.fake, "profiles/office", &profile("America/New_York"));
    let mut told = Vec::new();
    let mut most = 0;
    for _ in 0..12 {
        scene.main();
        let some = scene.asterisk.take_notified();
        most = most.max(some.len());
        told.extend(some);
    }
    // Each once, none of the others, and not all at the same time.
    let mut expected: Vec<String> = (0..count)
        .step_by(2)
        .map(|n| format!("2{n:03}: {EVENT}"))
        .collect();
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
    assert!(most <= 15, "{most} in one minute");
    assert_eq!(scene.fake.r2.keys("regenerate/"), [""; 0]);
    // A change that no file shows tells nobody.
    patch(&scene.fake, "tenants/acme", &json!({ "name": "ACME Ltd" }));
    patch(&scene.fake, "pbxes/main", &json!({ "context": "internal" }));
    for _ in 0..12 {
        scene.main();
    }
    assert_eq!(scene.asterisk.take_notified(), [""; 0]);
    // One of the PBX's that all files show does.
    patch(
        &scene.fake,
        "pbxes/main",
        &json!({ "sip": { "host": "new.example" } }),
    );
    let mut told = Vec::new();
    for _ in 0..20 {
        scene.main();
        told.extend(scene.asterisk.take_notified());
    }
    assert_eq!(told.len(), usize::try_from(count).unwrap());
    const { assert!(SPREAD_S >= 240) };
}

#[test]
fn new_templates_make_all_files_again() {
    let (scene, _) = office();
    for _ in 0..10 {
        scene.main();
    }
    assert_eq!(scene.fake.r2.keys("regenerate/"), [""; 0]);
    // As if an older code had made everything.
    let key = key::record(key::Kind::Device, DESK);
    let stored = block_on(scene.fake.r2.get(&key)).unwrap().unwrap();
    let mut device: Value = serde_json::from_slice(&stored.body).unwrap();
    device["state"]["files"]["sources"]["templates"] = json!(0);
    for part in device["state"]["files"]["parts"]
        .as_object_mut()
        .unwrap()
        .values_mut()
    {
        part["etag"] = json!("\"older\"");
    }
    let body = device.to_string().into_bytes();
    let put = scene.fake.r2.put(&key, body, BTreeMap::new(), Only::Always);
    block_on(put).unwrap();
    let older = br#"{"yealink":0}"#.to_vec();
    let put = scene
        .fake
        .r2
        .put(key::TEMPLATES, older, BTreeMap::new(), Only::Always);
    block_on(put).unwrap();
    let mut told = Vec::new();
    for _ in 0..25 {
        scene.main();
        told.extend(scene.asterisk.take_notified());
    }
    assert_eq!(told, [format!("1001: {EVENT}")]);
}

#[test]
fn cut_off_anywhere_a_phone_is_told_at_least_once_and_twice_at_most() {
    // After so many writes of the run nothing more gets through.
    for spared in 0..8 {
        let (scene, _) = office();
        relabel(&scene, DESK, "Front");
        scene.fake.clock.pass_s(60);
        let writes = Rc::new(Cell::new(0));
        scene.fake.r2.cut_after(spared, Rc::clone(&writes));
        scene.run();
        let cut = writes.get() > spared;
        scene.fake.r2.heal();
        for _ in 0..4 {
            scene.main();
        }
        let told = scene.asterisk.take_notified().len();
        assert!((1..=2).contains(&told), "{told} after {spared}");
        assert!(cut || told == 1, "{told} after {spared}");
        assert_eq!(state(&scene), "sent to the PBX", "{spared}");
        assert_eq!(scene.fake.r2.keys("resync/"), [""; 0]);
    }
    // A save that does not get to its mark leaves another one.
    let (scene, _) = office();
    *scene.fake.r2.failing.borrow_mut() = Failing::Prefix("resync/".to_owned());
    relabel(&scene, DESK, "Front");
    *scene.fake.r2.failing.borrow_mut() = Failing::None;
    scene.main();
    scene.main();
    assert_eq!(scene.asterisk.take_notified().len(), 1);
}

#[test]
fn a_save_while_a_phone_is_told_is_not_lost() {
    let (scene, _) = office();
    relabel(&scene, DESK, "Front");
    let fake = Rc::clone(&scene.fake);
    scene.fake.r2.before_next_put("told/", move || {
        let buttons = json!([{ "key": 1, "type": "speed_dial", "value": "4712" }]);
        patch(
            &fake,
            &format!("devices/{DESK}"),
            &json!({ "buttons": buttons }),
        );
    });
    scene.main();
    assert_eq!(scene.asterisk.take_notified().len(), 1);
    scene.main();
    assert_eq!(scene.asterisk.take_notified().len(), 1);
}

#[test]
fn the_headers_of_ari_go_to_no_other_host() {
    let (scene, _) = office();
    let asterisk = Rc::clone(&scene.asterisk);
    let seen = Rc::new(Cell::new(0));
    let counted = Rc::clone(&seen);
    scene.fake.net.answer(move |request| {
        let has = request.headers().contains_key("cf-access-client-secret");
        match request.uri().host().unwrap_or_default() {
            "pbx.example" => assert!(has),
            "ami.example" => {
                assert!(!has);
                counted.set(counted.get() + 1);
            }
            _ => return Err(NoAnswer::Unreachable),
        }
        asterisk.answer(&request)
    });
    assert_eq!(result(&scene, DESK), "sent to the PBX");
    patch(
        &scene.fake,
        "pbxes/main",
        &json!({ "ami": { "url": "https://ami.example/" } }),
    );
    assert_eq!(result(&scene, DESK), "sent to the PBX");
    assert_eq!(seen.get(), 2);
}

#[test]
fn a_device_that_is_gone_is_forgotten() {
    let (scene, _) = office();
    relabel(&scene, DESK, "Front");
    scene.main();
    relabel(&scene, DESK, "Back");
    assert!(!scene.fake.r2.keys("told/").is_empty());
    let gone = call(
        &scene.fake,
        Method::DELETE,
        &format!("devices/{DESK}"),
        &Value::Null,
    );
    assert!(gone.status().is_success());
    assert_eq!(scene.fake.r2.keys("told/"), [""; 0]);
    assert_eq!(scene.fake.r2.keys("resync/"), [""; 0]);
    let nobody = get(&format!("/rps?mac={DESK}&serial=1"));
    assert_eq!(fetch(&scene.fake, &nobody).status(), StatusCode::NOT_FOUND);
}
