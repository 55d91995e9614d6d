//! New templates that go to some phones first. The code has one number of each vendor's templates, so an older
//! deployment is played: its number is written where files and tenants have it, and its files begin with a
//! remark that those of today do not have.

use std::collections::{BTreeMap, BTreeSet};

use dialtone::finish;
use dialtone::key::{self, Kind};
use dialtone::mac::Mac;
use dialtone::ports::{Objects, Only, World};
use dialtone::record::device::{Device, FileSet};
use dialtone::record::tenant::Tenant;
use dialtone::record::{Record, Stored};
use dialtone::rekey;
use dialtone::rollout::templates::{Reach, Rollout, Scope, Templates, numbers};
use dialtone::rollout::{Canary, Stage, place};
use dialtone::store;
use dialtone::time::Timestamp;
use dialtone::vendor::VendorId;
use http::{Method, StatusCode};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::ask::{call, cost, fetch, follow, json_of, patch, put};
use crate::reconcile::PASSWORD;
use crate::rollout::{NAMES, Office, Phone, Trouble, cut, office, troubles};
use crate::world::{Failing, Fake, SEAL_KEY, block_on};

const YEALINK: VendorId = VendorId::Yealink;
const REMARK: &str = "#templates ";
const NEW_KEY: &str = "YSBzZWNvbmQgc2VhbCBrZXksIG5vIHNlY3JldCAyMjI=";

fn code() -> u32 {
    YEALINK.rules().templates()
}

/// Whether files are of this code's templates.
fn new(files: &str) -> bool {
    !files.contains(REMARK)
}

/// Rewrites a record behind everybody's back.
fn rewrite<R: Record>(fake: &Fake, id: &str, change: impl FnOnce(&mut Stored<R>)) {
    let loaded = block_on(store::load::<R, Fake>(fake, id)).unwrap().unwrap();
    let mut stored = loaded.stored;
    change(&mut stored);
    fake.clock.pass_s(2);
    let replaced = store::replace(fake, id, &stored, Some(&loaded.etag));
    assert_eq!(block_on(replaced), Ok(true));
}

/// Makes files those of an older deployment.
fn make_older(fake: &Fake, mac: Mac, files: &mut FileSet, number: u32) {
    files.sources.templates = number;
    for (part, file) in &mut files.parts {
        let place = format!("file/{mac}/{}", part.neutral_name());
        let text = String::from_utf8(fake.keys().open(&place, &file.sealed).unwrap()).unwrap();
        let text = format!("{REMARK}{number}\n{text}");
        file.sealed = fake.keys().seal(fake, &place, text.as_bytes()).unwrap();
        file.etag = fake.keys().etag(text.as_bytes()).unwrap();
        file.length = u64::try_from(text.len()).unwrap();
    }
}

/// As if all had been made by an older deployment, and this code were new.
fn deploy_over(office: &Office, number: u32) {
    let fake = &*office.scene.fake;
    for phone in &office.phones {
        let mac: Mac = phone.mac.parse().unwrap();
        rewrite::<Device>(fake, &phone.mac, |stored| {
            make_older(fake, mac, stored.state.files.as_mut().unwrap(), number);
        });
    }
    rewrite::<Tenant>(fake, "acme", |stored| {
        if let Some(state) = &mut stored.state {
            state.released.insert(YEALINK, number);
        }
    });
    block_on(finish::republish(fake, Kind::Tenant, "acme")).unwrap();
    let mut older = numbers();
    older.insert(YEALINK, number);
    let bytes = serde_json::to_vec(&older).unwrap();
    let put = fake
        .r2
        .put(key::TEMPLATES, bytes, BTreeMap::new(), Only::Always);
    block_on(put).unwrap();
}

/// So many phones whose files an older deployment made.
fn older_office(count: u32, terms: &Value) -> (Office, Vec<String>) {
    let office = office(count, terms);
    deploy_over(&office, code() - 1);
    let before = office.all_fetch(|_| false);
    (office, before)
}

fn shown(office: &Office) -> Value {
    let path = "tenants/acme/rollout";
    let shown = json_of(&call(&office.scene.fake, Method::GET, path, &Value::Null));
    shown["rollouts"][0].clone()
}

fn stage(office: &Office) -> String {
    let shown = shown(office);
    shown["stage"].as_str().unwrap_or("everyone").to_owned()
}

fn until(office: &Office, wanted: &str, within: u32) {
    for _ in 0..within {
        if stage(office) == wanted {
            return;
        }
        office.scene.minute();
    }
    panic!("{} and not {wanted}", shown(office));
}

fn say(office: &Office, body: &Value) -> u16 {
    let path = "tenants/acme/rollout";
    let answer = call(&office.scene.fake, Method::POST, path, body);
    answer.status().as_u16()
}

fn who_has(files: &[String]) -> BTreeSet<usize> {
    let has = files.iter().enumerate();
    has.filter(|(_, files)| new(files))
        .map(|(n, _)| n)
        .collect()
}

fn stored(office: &Office, phone: &Phone) -> Stored<Device> {
    let fake = &*office.scene.fake;
    let loaded = block_on(store::load::<Device, Fake>(fake, &phone.mac));
    loaded.unwrap().unwrap().stored
}

fn version(office: &Office, phone: &Phone) -> u64 {
    stored(office, phone).state.files.unwrap().version
}

/// How many devices keep former files.
fn kept(office: &Office) -> usize {
    let devices = office.phones.iter().map(|phone| stored(office, phone));
    devices
        .filter(|device| device.state.former_files.is_some())
        .count()
}

#[test]
fn without_the_field_new_templates_go_to_all_as_ever() {
    let office = office(6, &Value::Null);
    deploy_over(&office, code() - 1);
    let tenant = office.scene.fake.objects("tenant/acme");
    assert_eq!(tenant[0]["state"], Value::Null);
    let files = office.all_fetch(|_| false);
    assert_eq!(who_has(&files).len(), 6);
    assert_eq!(kept(&office), 0);
    office.minutes(15);
    assert_eq!(stage(&office), "everyone");
    assert_eq!(office.marks(), [""; 0]);
    let tenant = office.scene.fake.objects("tenant/acme");
    assert_eq!(tenant[0]["state"], Value::Null);
}

#[test]
fn a_share_gets_good_templates_first_and_then_everybody() {
    for (phones, percent, canaries) in [(1, 1, 1), (10, 25, 3), (21, 5, 2)] {
        let (office, before) = older_office(phones, &json!({ "canary_percent": percent }));
        // Nobody, also before any run has noticed.
        assert_eq!(who_has(&before).len(), 0);
        until(&office, "canary", 25);
        assert_eq!(shown(&office)["canaries"], canaries);
        assert_eq!(shown(&office)["devices"], phones);
        assert_eq!(shown(&office)["templates"], code());
        office.minutes(3);
        let files = office.all_fetch(|_| false);
        let who = who_has(&files);
        assert_eq!(who.len(), usize::try_from(canaries).unwrap());
        assert_eq!(kept(&office), who.len());
        for (n, (files, before)) in files.iter().zip(&before).enumerate() {
            assert_eq!(files == before, !who.contains(&n));
        }
        // A phone's request costs what it ever does, whoever asks.
        for phone in &office.phones {
            let warm = follow(&format!("{}ACC.cfg", phone.base));
            let (answer, kv, r2) = cost(&office.scene.fake, &warm);
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!((kv.gets, kv.all(), r2.gets, r2.all()), (1, 1, 1, 1));
        }
        office.minutes(58);
        assert_eq!(office.all_fetch(|_| false), files);
        assert_eq!(shown(&office)["fetched"], canaries);
        assert_eq!(stage(&office), "canary");
        until(&office, "everyone", 5);
        office.minutes(3);
        let made = office.phones.iter();
        let made = made.map(|phone| stored(&office, phone).state.files.unwrap());
        assert!(
            made.into_iter()
                .all(|files| files.sources.templates == code())
        );
        assert_eq!(who_has(&office.all_fetch(|_| false)).len(), files.len());
        assert_eq!((kept(&office), office.marks()), (0, Vec::new()));
        assert_eq!(office.scene.fake.r2.keys("regenerate/"), [""; 0]);
        for action in ["rollout.begun", "rollout.finished"] {
            let told = office.audited(action);
            assert_eq!(told.len(), 1, "{told:?}");
            assert_eq!(told[0]["resource"], "tenants/acme");
            assert_eq!(told[0]["detail"]["vendor"], "yealink");
        }
        assert_eq!(office.audited("rollout.stopped").len(), 0);
    }
}

#[test]
fn bad_templates_stop_and_the_canaries_get_back_the_bytes_that_they_had() {
    let (office, before) = older_office(40, &json!({ "canary_percent": 10 }));
    until(&office, "canary", 25);
    office.minutes(2);
    let files = office.all_fetch(new);
    let who = who_has(&files);
    assert_eq!(who.len(), 4);
    let versions: Vec<u64> = office.phones.iter().map(|p| version(&office, p)).collect();
    office.minutes(4);
    assert_eq!(stage(&office), "canary", "not before five minutes");
    until(&office, "stopped", 5);
    assert_eq!(shown(&office)["why"], "lost");
    assert_eq!(shown(&office)["lost"], 4);
    // Made without that a phone asks, and told, since they are under a version of their own.
    office.minutes(3);
    for (n, phone) in office.phones.iter().enumerate() {
        let files = stored(&office, phone).state.files.unwrap();
        assert_eq!(files.sources.templates, code() - 1);
        assert_eq!(files.version > versions[n], who.contains(&n));
    }
    assert_eq!(office.all_fetch(new), before);
    assert_eq!(kept(&office), 0);
    let stopped = office.audited("rollout.stopped");
    assert_eq!(stopped.len(), 1, "{stopped:?}");
    assert_eq!(stopped[0]["alarm"], true);
    assert_eq!(stopped[0]["detail"]["lost"], "4");
    let back = office.audited("rollout.given_back");
    assert_eq!(back.len(), 1, "{back:?}");
    assert_eq!(back[0]["detail"]["given_back"], "4");
    assert_eq!(back[0]["detail"]["kept"], "0");
    office.minutes(70);
    assert_eq!(stage(&office), "stopped");
    assert_eq!(office.all_fetch(new), before);
    assert_eq!(office.marks(), [""; 0]);
    office.scene.keeps_secrets();
}

#[test]
fn what_changed_meanwhile_is_not_given_back_with_its_old_secret() {
    let (office, before) = older_office(20, &json!({ "canary_percent": 20 }));
    until(&office, "canary", 25);
    office.minutes(2);
    let who = who_has(&office.all_fetch(|_| false));
    assert_eq!(who.len(), 4);
    let changed = *who.iter().next().unwrap();
    let account = format!("accounts/acme-{}", office.phones[changed].username);
    let password = json!({ "password": "Another-Secret-2" });
    patch(&office.scene.fake, &account, &password);
    office.minutes(1);
    let made = version(&office, &office.phones[changed]);
    assert_eq!(say(&office, &json!({ "to": "stop" })), 200);
    office.scene.fake.clock.pass_s(61);
    // Also to a phone that asks before a run comes by.
    for (n, phone) in office.phones.iter().enumerate() {
        let files = office.files(phone);
        if n == changed {
            assert!(new(&files) && files.contains("Another-Secret-2"));
            assert!(!files.contains(PASSWORD));
        } else {
            assert_eq!(files, before[n]);
        }
    }
    office.minutes(3);
    let back = office.audited("rollout.given_back");
    assert_eq!(back.len(), 1, "{back:?}");
    assert_eq!(back[0]["detail"]["given_back"], "3");
    assert_eq!(back[0]["detail"]["kept"], "1");
    assert_eq!(kept(&office), 0);
    // Nor is it told to fetch once more what it has.
    assert_eq!(version(&office, &office.phones[changed]), made);
}

#[test]
fn a_second_new_number_begins_anew_and_the_first_canaries_go_back() {
    let (office, before) = older_office(20, &json!({ "canary_percent": 20 }));
    let fake = &*office.scene.fake;
    // The deployment before this one tried its own templates at some.
    let (acme, number) = ("acme".to_owned().try_into().unwrap(), code());
    deploy_over_canaries(&office);
    let files = office.all_fetch(|_| false);
    let first: BTreeSet<usize> = (0..20).filter(|n| files[*n] != before[*n]).collect();
    assert_eq!(first.len(), 5);
    until(&office, "choosing", 25);
    assert_eq!(shown(&office)["templates"], number);
    office.minutes(2);
    // Without that a phone asks, and before others are chosen.
    assert_eq!((kept(&office), stage(&office).as_str()), (0, "choosing"));
    assert_eq!(office.all_fetch(|_| false), before);
    until(&office, "canary", 10);
    office.minutes(2);
    let files = office.all_fetch(|_| false);
    assert_eq!(who_has(&files).len(), 4);
    for (n, files) in files.iter().enumerate() {
        assert!(new(files) || *files == before[n], "{n}");
    }
    let tenant = block_on(store::load::<Tenant, Fake>(fake, "acme"));
    let templates = tenant.unwrap().unwrap().stored.state;
    for (n, phone) in office.phones.iter().enumerate() {
        let scope = Scope {
            templates: templates.as_ref(),
            tenant: &acme,
            vendor: YEALINK,
            mac: phone.mac.parse().unwrap(),
        };
        assert_eq!(scope.reach(number) == Reach::Canary, new(&files[n]));
    }
}

/// Five phones are canaries of templates between those that all have and those of this code.
fn deploy_over_canaries(office: &Office) {
    let fake = &*office.scene.fake;
    // `before` is of code() - 1: that is what is tried, and all others go back by one.
    let number = code() - 1;
    let name = "templates/acme/yealink";
    let mut places: Vec<(u64, usize)> = office
        .phones
        .iter()
        .enumerate()
        .map(|(n, phone)| {
            let mac: Mac = phone.mac.parse().unwrap();
            (place(name, u64::from(number), mac), n)
        })
        .collect();
    places.sort_unstable();
    let below = places[5].0;
    for (n, phone) in office.phones.iter().enumerate() {
        let mac: Mac = phone.mac.parse().unwrap();
        let is_canary = places[..5].iter().any(|(_, canary)| *canary == n);
        rewrite::<Device>(fake, &phone.mac, |stored| {
            let files = stored.state.files.as_mut().unwrap();
            files.sources.templates = number - 1;
            if is_canary {
                stored.state.former_files = Some(Box::new(files.clone()));
                make_older(fake, mac, files, number);
                files.version += 1;
            }
        });
    }
    rewrite::<Tenant>(fake, "acme", |stored| {
        let state = stored.state.as_mut().unwrap();
        state.released.insert(YEALINK, number - 1);
        let at = fake.now();
        let canary = Stage::Canary(Canary { below, at, rev: 1 });
        let rollout = Rollout {
            number,
            since: at,
            stage: canary,
        };
        state.rollouts.insert(YEALINK, rollout);
    });
    block_on(finish::republish(fake, Kind::Tenant, "acme")).unwrap();
}

#[test]
fn a_change_of_keys_keeps_nothing_under_the_old_one() {
    let (office, _) = older_office(10, &json!({ "canary_percent": 20 }));
    until(&office, "canary", 25);
    office.minutes(2);
    let who = who_has(&office.all_fetch(|_| false));
    assert_eq!((who.len(), kept(&office)), (2, 2));
    office.scene.fake.deploy(NEW_KEY, Some(SEAL_KEY));
    // Of one the files are the new key's already, and those from before are not, as after a save that was cut
    // off.
    let canary = &office.phones[*who.iter().next().unwrap()];
    let former = stored(&office, canary).state.former_files;
    office.files(canary);
    assert_eq!(kept(&office), 1, "a phone's request drops them");
    rewrite::<Device>(&office.scene.fake, &canary.mac, |stored| {
        stored.state.former_files = former;
    });
    block_on(rekey::run(&*office.scene.fake)).unwrap();
    assert_eq!(kept(&office), 0);
    // They cannot be given back, and are no worse for it.
    assert_eq!(say(&office, &json!({ "to": "stop" })), 200);
    office.minutes(3);
    assert!(new(&office.files(canary)));
    let back = office.audited("rollout.given_back");
    assert_eq!(back[0]["detail"]["kept"], "2");
}

#[test]
fn turned_off_or_said_by_an_admin_all_get_them() {
    let (everyone, stop) = (json!({ "to": "everyone" }), json!({ "to": "stop" }));
    let (office, before) = older_office(10, &json!({}));
    assert_eq!(say(&office, &everyone), 409);
    assert_eq!(say(&office, &json!({ "to": "nobody" })), 422);
    assert_eq!(
        say(&office, &json!({ "to": "stop", "vendor": "nokia" })),
        422
    );
    until(&office, "canary", 25);
    office.minutes(2);
    assert_eq!(who_has(&office.all_fetch(|_| false)).len(), 1);
    assert_eq!(
        say(&office, &json!({ "to": "stop", "vendor": "snom" })),
        409
    );
    assert_eq!((say(&office, &stop), say(&office, &stop)), (200, 409));
    assert_eq!(shown(&office)["why"], "admin");
    office.scene.fake.clock.pass_s(61);
    assert_eq!(office.all_fetch(|_| false), before);
    let told = office.audited("rollout.stopped");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["alarm"], Value::Null);
    let yealink = json!({ "to": "everyone", "vendor": "yealink" });
    assert_eq!(
        (say(&office, &yealink), say(&office, &everyone)),
        (200, 409)
    );
    office.scene.fake.clock.pass_s(61);
    assert_eq!(who_has(&office.all_fetch(|_| false)).len(), 10);
    assert_eq!(stage(&office), "everyone");

    let (office, _) = older_office(10, &json!({}));
    until(&office, "canary", 25);
    office.minutes(2);
    assert_eq!(who_has(&office.all_fetch(|_| false)).len(), 1);
    let off = json!({ "rollout": null });
    patch(&office.scene.fake, "tenants/acme", &off);
    office.minutes(3);
    assert_eq!(who_has(&office.all_fetch(|_| false)).len(), 10);
    assert_eq!(kept(&office), 0);
    assert_eq!(office.marks(), [""; 0]);
    let tenant = office.scene.fake.objects("tenant/acme");
    assert_eq!(tenant[0]["state"], Value::Null);
}

#[test]
fn whoever_may_not_have_them_keeps_what_it_has_when_r2_fails() {
    let (office, before) = older_office(10, &json!({}));
    let fake = &*office.scene.fake;
    let fails = |fails: bool| {
        let prefix = Failing::Prefix("device/".to_owned());
        *fake.r2.failing.borrow_mut() = if fails { prefix } else { Failing::None };
    };
    let answers = || -> Vec<StatusCode> {
        fails(true);
        let phones = office.phones.iter();
        let answers = phones.map(|phone| {
            let answer = fetch(fake, &follow(&format!("{}ACC.cfg", phone.base)));
            let text = String::from_utf8_lossy(answer.body()).into_owned();
            assert!(!text.contains(REMARK));
            answer.status()
        });
        let answers = answers.collect();
        fails(false);
        answers
    };
    let served = |answers: &[StatusCode]| answers.iter().filter(|s| s.is_success()).count();
    assert_eq!(served(&answers()), 0);
    assert_eq!(office.all_fetch(|_| false), before);
    until(&office, "canary", 25);
    // KV shows it a minute late.
    fake.clock.pass_s(61);
    assert_eq!(served(&answers()), 1);
    assert_eq!(say(&office, &json!({ "to": "everyone" })), 200);
    fake.clock.pass_s(61);
    assert_eq!(served(&answers()), 10);
}

#[test]
fn a_profile_and_templates_are_rolled_out_side_by_side() {
    let (office, _) = older_office(10, &json!({ "minutes": 15 }));
    let ntp = json!({ "settings": { "ntp_server": "new.example" } });
    patch(&office.scene.fake, "profiles/office", &ntp);
    until(&office, "canary", 25);
    office.minutes(3);
    // With what the profile's stages have made again, more have them than the canaries.
    office.all_fetch(|_| false);
    until(&office, "everyone", 40);
    office.minutes(20);
    let files = office.all_fetch(|_| false);
    let has = |files: &String| new(files) && files.contains("new.example");
    assert!(files.iter().all(has));
    assert_eq!(office.marks(), [""; 0]);
}

#[test]
fn cut_off_at_any_write_it_comes_to_the_same_end() {
    for good in [true, false] {
        let end = if good { "everyone" } else { "stopped" };
        let terms = json!({ "minutes": 15, "canary_percent": 20 });
        let (first, before) = older_office(10, &terms);
        until(&first, "canary", 25);
        let start = first.scene.fake.snapshot();
        for spared in 0..14 {
            first.scene.fake.restore(&start);
            first.minutes(3);
            let files = first.all_fetch(|files| !good && new(files));
            assert_eq!(who_has(&files).len(), 2);
            let mut runs = 0;
            while stage(&first) == "canary" {
                cut(&first, spared);
                // A lease that could not be given back ends.
                first.scene.fake.clock.pass_s(120);
                first.scene.minute();
                runs += 1;
                assert!(runs < 40, "{spared}: {}", shown(&first));
            }
            assert_eq!(stage(&first), end, "{spared}");
            first.minutes(4);
            let files = first.all_fetch(|files| !good && new(files));
            if good {
                assert_eq!(who_has(&files).len(), 10, "{spared}");
            } else {
                assert_eq!(files, before, "{spared}");
                assert!(!first.audited("rollout.stopped").is_empty(), "{spared}");
            }
            assert_eq!(kept(&first), 0, "{spared}");
            assert_eq!(first.marks(), [""; 0], "{spared}");
            assert_eq!(first.scene.fake.r2.keys("unfinished/"), [""; 0]);
        }
    }
    // From the deployment on.
    let (first, before) = older_office(10, &json!({ "canary_percent": 20 }));
    let start = first.scene.fake.snapshot();
    for spared in 0..14 {
        first.scene.fake.restore(&start);
        for _ in 0..14 {
            cut(&first, spared);
            assert!(who_has(&first.all_fetch(|_| false)).len() <= 2, "{spared}");
            first.scene.fake.clock.pass_s(60);
        }
        until(&first, "canary", 25);
        first.minutes(4);
        let files = first.all_fetch(|_| false);
        assert_eq!(who_has(&files).len(), 2, "{spared}");
        let same = files.iter().zip(&before).filter(|(a, b)| a == b).count();
        assert_eq!(same, 8, "{spared}");
    }
}

#[test]
fn only_what_is_rolled_out_at_a_tenant_counts_for_its_phones() {
    let acme = "acme".to_owned().try_into().unwrap();
    let stage = |below| {
        Stage::Canary(Canary {
            below,
            at: Timestamp(0),
            rev: 1,
        })
    };
    let number = code();
    let mut templates = Templates::begin();
    templates.released.insert(YEALINK, number - 1);
    let reach = |templates: Option<&Templates>, number| {
        let scope = Scope {
            templates,
            tenant: &acme,
            vendor: YEALINK,
            mac: "805ec0000001".parse().unwrap(),
        };
        (scope.reach(number), scope.measure())
    };
    assert_eq!(reach(None, number), (Reach::Everybody, number));
    assert_eq!(reach(Some(&templates), number - 1).0, Reach::Everybody);
    assert_eq!(reach(Some(&templates), number), (Reach::Nobody, 0));
    assert!(templates.has_news() && templates.begin_rollouts(Timestamp(7)));
    assert!(!templates.has_news() && !templates.begin_rollouts(Timestamp(8)));
    assert_eq!(templates.rollouts.len(), 1);
    assert_eq!(reach(Some(&templates), number).0, Reach::Nobody);
    for (below, expected) in [(u64::MAX, Reach::Canary), (0, Reach::Nobody)] {
        let rollout = templates.rollouts.get_mut(&YEALINK).unwrap();
        rollout.stage = stage(below);
        assert_eq!(reach(Some(&templates), number).0, expected);
        assert_eq!(reach(Some(&templates), number + 1).0, Reach::Nobody);
    }
    assert!(!templates.release(YEALINK, number - 1, true));
    assert!(templates.release(YEALINK, number, false));
    assert_eq!(reach(Some(&templates), number), (Reach::Everybody, number));
}

#[test]
fn files_that_name_their_version_are_given_back_under_a_new_one() {
    for name in ["Version", "version"] {
        // As the files of `fixtures/fanvil` have it.
        let of = |version| format!("<a>\n<{name}>2.10000{version}0000</{name}>\n<b>3</b>\n</a>\n");
        let renumbered = VendorId::Fanvil.rules().renumber(&of(3), 3, 9);
        assert_eq!(renumbered, Some(of(9)));
        assert_eq!(VendorId::Fanvil.rules().renumber(&of(4), 3, 9), None);
    }
}

#[derive(Debug, Clone)]
enum Deed {
    Minute,
    Fetch(usize),
    Trouble(Trouble),
    Admin(bool),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        12 => Just(Deed::Minute),
        8 => (0..12_usize).prop_map(Deed::Fetch),
        4 => troubles().prop_map(Deed::Trouble),
        1 => any::<bool>().prop_map(Deed::Admin),
    ];
    proptest::collection::vec(deed, 60..140)
}

/// Whether what R2 says now lets a phone have the new templates.
fn allowed(office: &Office, phone: &Phone) -> bool {
    let fake = &*office.scene.fake;
    let tenant = block_on(store::load::<Tenant, Fake>(fake, "acme"));
    let state = tenant.unwrap().unwrap().stored.state;
    let acme = "acme".to_owned().try_into().unwrap();
    let scope = Scope {
        templates: state.as_ref(),
        tenant: &acme,
        vendor: YEALINK,
        mac: phone.mac.parse().unwrap(),
    };
    scope.reach(code()) != Reach::Nobody
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever happens, a phone gets new templates only if it was allowed to at some time since the start; when
    /// all is quiet, it has what it is allowed to have now, byte for byte what it had before if that is the old.
    #[test]
    fn nobody_gets_early_what_is_for_the_canaries(deeds in deeds()) {
        let (office, before) = older_office(12, &json!({ "minutes": 15, "canary_percent": 20 }));
        let mut was_allowed = [false; 12];
        for deed in deeds {
            let fake = &office.scene.fake;
            match deed {
                Deed::Minute => { office.scene.minute(); }
                Deed::Fetch(n) => {
                    let phone = &office.phones[n];
                    for name in NAMES {
                        let answer = fetch(fake, &follow(&format!("{}{name}", phone.base)));
                        let body = String::from_utf8_lossy(answer.body()).into_owned();
                        let is_new = answer.status().is_success() && new(&body);
                        prop_assert!(!is_new || was_allowed[n], "{n}");
                        if is_new && n % 2 == 0 {
                            office.scene.asterisk.unregisters(&phone.username);
                        }
                    }
                }
                Deed::Trouble(trouble) => office.meets(&trouble),
                Deed::Admin(stop) => {
                    say(&office, &json!({ "to": if stop { "stop" } else { "everyone" } }));
                }
            }
            for (phone, was) in office.phones.iter().zip(&mut was_allowed) {
                *was |= allowed(&office, phone);
            }
        }
        office.calms_down(3);
        let now: Vec<bool> = office.phones.iter().map(|phone| allowed(&office, phone)).collect();
        for (n, phone) in office.phones.iter().enumerate() {
            let files = office.files(phone);
            prop_assert!(if now[n] { new(&files) } else { files == before[n] }, "{n}");
        }
        let open = matches!(stage(&office).as_str(), "choosing" | "canary");
        prop_assert_eq!(office.marks().len(), usize::from(open));
    }
}

#[test]
fn a_tenant_that_comes_back_begins_with_the_templates_of_its_day() {
    let fake = Fake::new();
    let tenant = json!({ "name": "ACME", "rollout": {} });
    put(&fake, "tenants/acme", &tenant);
    rewrite::<Tenant>(&fake, "acme", |stored| {
        stored.state.as_mut().unwrap().released.clear();
    });
    crate::ask::delete(&fake, "tenants/acme");
    assert_eq!(fake.objects("tenant/acme")[0]["state"], Value::Null);
    fake.clock.pass_s(2);
    put(&fake, "tenants/acme", &tenant);
    let loaded = block_on(store::load::<Tenant, Fake>(&fake, "acme"));
    let stored = loaded.unwrap().unwrap().stored;
    assert_eq!(stored.state, Some(Templates::begin()));
}
