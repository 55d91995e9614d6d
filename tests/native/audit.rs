//! The audit: events of admins and phones, chained by the scheduled handler, listed and verified by the
//! admin API, and alarms on their way to a webhook. Somebody changes the bucket; runs are killed at every
//! call, and overlap.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context as Polled, Poll, Waker};

use dialtone::admin;
use dialtone::admin::caller::{Caller, Role};
use dialtone::admin::problem::Failure;
use dialtone::admin::save::Context;
use dialtone::audit::{self, Event};
use dialtone::chain::{self, End, Link};
use dialtone::chaining::{self, Allowance};
use dialtone::fault::Fault;
use dialtone::keys::{Keys, hmac_hex};
use dialtone::ports::{Object, ObjectEntry, Objects, Only, Page, World};
use dialtone::text::Id;
use dialtone::tick;
use dialtone::time::Timestamp;
use futures_util::future::join;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::around::as_the_fake;
use crate::ask::{HOST, ORIGIN, Told, act, call, fetch, get, json_of, patch, put};
use crate::phone::{MAC, Office, PASSWORD};
use crate::world::{ADMIN_TOKEN, Failing, Fake, Kv, Net, SEAL_KEY, START_S, block_on, hex};

const HOOK: &str = "https://alarms.example.com/hook";
const HOOK_SECRET: &str = "webhook-secret-in-clear";

fn id(text: &str) -> Id {
    Id::try_from(text).unwrap()
}

/// Writes down an event of `acme`'s; a second passes.
fn note(world: &impl World, fake: &Fake, n: u32, alarm: bool) {
    let event = Event::new(
        world,
        "admin",
        Some(&id("acme")),
        "device.armed",
        format!("devices/{n}"),
    );
    let event = if alarm { event.alarming() } else { event };
    block_on(audit::note(world, &event));
    fake.clock.pass_s(1);
}

fn notes(fake: &Fake, numbers: std::ops::Range<u32>) {
    for n in numbers {
        note(fake, fake, n, false);
    }
}

/// The next minute's run.
fn run(fake: &Fake) {
    fake.clock.pass_s(60);
    block_on(tick::run(fake, None));
}

fn pass(world: &impl World) {
    let calls = Cell::new(900);
    block_on(chaining::pass(
        world,
        world.now(),
        &Allowance::new(&calls, chaining::CALLS),
    ));
}

fn read(fake: &Fake, key: &str) -> Vec<u8> {
    block_on(fake.r2.get(key)).unwrap().unwrap().body
}

fn write(fake: &Fake, key: &str, body: &[u8]) {
    let put = fake
        .r2
        .put(key, body.to_vec(), BTreeMap::new(), Only::Always);
    block_on(put).unwrap();
}

fn remove(fake: &Fake, key: &str) {
    block_on(fake.r2.delete(key)).unwrap();
}

fn page(n: u32) -> String {
    format!("audit/acme/{n:012}")
}

const HEAD: &str = "audit-head/acme";

/// Everything in a tenant's chain, which must hang together.
fn history(fake: &Fake, owner: &str) -> Vec<Link> {
    let mut end = End::default();
    let mut history = Vec::new();
    for key in fake.r2.keys(&format!("audit/{owner}/")) {
        let (links, next) = chain::follow(&end, &read(fake, &key)).unwrap();
        history.extend(links);
        end = next;
    }
    let names: BTreeSet<&str> = history.iter().map(|link| link.entry.id.as_str()).collect();
    assert_eq!(names.len(), history.len(), "an event is there twice");
    history
}

/// The numbers of the devices that the events of [`note`] are about, in the order of the chain.
fn numbers(links: &[Link]) -> Vec<u32> {
    let resources = links
        .iter()
        .filter(|link| link.entry.event.action == "device.armed")
        .map(|link| link.entry.event.resource.as_str());
    resources
        .map(|resource| resource.strip_prefix("devices/").unwrap().parse().unwrap())
        .collect()
}

fn ask(fake: &Fake, query: &str) -> Value {
    json_of(&call(
        fake,
        Method::GET,
        &format!("audit?{query}"),
        &Value::Null,
    ))
}

fn verify(fake: &Fake) -> Value {
    ask(fake, "verify=1&tenant=acme")
}

/// Follows the cursor; what comes between two calls is up to the caller.
fn list(fake: &Fake, query: &str, between: impl Fn()) -> Vec<Value> {
    let mut items = Vec::new();
    let mut cursor = String::new();
    loop {
        let answer = ask(fake, &format!("{query}{cursor}"));
        items.extend(answer["items"].as_array().unwrap().clone());
        match answer["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
        between();
    }
}

fn resources(items: &[Value]) -> Vec<&str> {
    let resources = items.iter().map(|item| item["resource"].as_str().unwrap());
    resources.collect()
}

// The chain

#[test]
fn events_are_chained_in_order_over_runs_and_pages() {
    let fake = Fake::new();
    notes(&fake, 0..230);
    for chained in [100, 200, 230] {
        run(&fake);
        assert_eq!(history(&fake, "acme").len(), chained);
        assert_eq!(fake.r2.keys("audit-new/acme/").len(), 230 - chained);
    }
    notes(&fake, 230..240);
    run(&fake);
    let links = history(&fake, "acme");
    assert_eq!(numbers(&links), (0..240).collect::<Vec<_>>());
    assert_eq!(fake.r2.keys("audit/acme/").len(), 4);

    // As somebody would do it who has only the documentation.
    let mut hash = "0".repeat(64);
    for n in 1..=4 {
        for line in String::from_utf8(read(&fake, &page(n))).unwrap().lines() {
            let (said, entry) = line.split_once(' ').unwrap();
            hash = hex(&Sha256::digest(format!("{hash}{entry}")));
            assert_eq!(hash, said);
        }
    }
    let expected = json!({ "verified": true, "entries": 240, "head": hash });
    assert_eq!(verify(&fake), expected);
    // The log, which is kept elsewhere, can bear witness.
    assert!(fake.logged().contains(&hash));
}

#[test]
fn what_admins_do_is_chained_by_tenant_and_the_operators_own_apart() {
    let office = Office::new();
    let fake = &office.fake;
    fake.clock.pass_s(1);
    act(fake, MAC, "rotate");
    let rule = json!({ "match": {}, "url": "{self}" });
    put(fake, "rules/everyone", &rule);
    run(fake);
    assert_eq!(fake.r2.keys("audit-new/"), Vec::<String>::new());
    let acme = list(fake, "tenant=acme", || {});
    let own = list(fake, "", || {});
    assert_eq!(resources(&own), ["rules/everyone"]);
    assert_eq!(acme[0]["action"], "device.rotated");
    assert_eq!(acme[0]["actor"], "admin");
    for made in ["tenants/acme", "pbxes/main", "accounts/acme-1001"] {
        assert!(resources(&acme).contains(&made), "{made}");
    }
    assert_eq!(ask(fake, "verify=1")["entries"], 1);
    assert_eq!(verify(fake)["entries"], acme.len());
}

#[test]
fn no_secret_is_in_an_entry() {
    let office = Office::of(
        &json!({ "webhook": { "url": HOOK, "secret": HOOK_SECRET } }),
        &json!({ "arm": "1h" }),
    );
    let fake = &office.fake;
    for action in ["rotate", "arm", "revoke"] {
        act(fake, MAC, action);
    }
    let path = format!("devices/{MAC}?secrets=1");
    let shown = json_of(&call(fake, Method::GET, &path, &Value::Null));
    patch(
        fake,
        "accounts/acme-1001",
        &json!({ "password": "another-password" }),
    );
    run(fake);
    let key = shown["first_access"]["key"].as_str().unwrap();
    let mut kept = String::new();
    for link in history(fake, "acme") {
        kept.push_str(&link.json);
    }
    assert!(kept.contains("secrets.shown"));
    kept.push_str(&ask(fake, "tenant=acme&limit=200").to_string());
    kept.push_str(&fake.logged());
    let access = office.first_access.trim_end_matches('/');
    for secret in [
        PASSWORD,
        "another-password",
        "ari-password-in-clear",
        HOOK_SECRET,
        ADMIN_TOKEN,
        office.token(),
        access.rsplit('/').next().unwrap(),
        key,
    ] {
        assert!(!secret.is_empty() && !kept.contains(secret), "{secret}");
    }
}

#[test]
fn without_anything_to_chain_a_pass_costs_one_listing() {
    let fake = Fake::new();
    notes(&fake, 0..3);
    pass(&*fake);
    fake.r2.take_count();
    fake.kv.take_count();
    pass(&*fake);
    let count = fake.r2.take_count();
    assert_eq!((count.all(), count.lists), (1, 1));
    assert_eq!(fake.kv.take_count().all(), 0);
}

#[test]
fn a_pass_stays_within_its_calls_and_everybody_has_a_turn() {
    let fake = Fake::new();
    let tenants: Vec<Id> = (0..60).map(|n| id(&format!("t{n:02}"))).collect();
    for n in 0..30 {
        for tenant in &tenants {
            let event = Event::new(&*fake, "admin", Some(tenant), "x.y", format!("devices/{n}"));
            block_on(audit::note(&*fake, &event));
        }
        fake.clock.pass_s(1);
    }
    let mut passes = 0;
    while !fake.r2.keys("audit-new/").is_empty() {
        fake.clock.pass_s(60);
        fake.r2.take_count();
        fake.kv.take_count();
        pass(&*fake);
        let used = fake.r2.take_count().all() + fake.kv.take_count().all();
        assert!(used <= chaining::CALLS, "{used}");
        passes += 1;
        assert!(passes <= 40);
    }
    for tenant in tenants {
        assert_eq!(history(&fake, tenant.as_str()).len(), 30);
    }
}

#[test]
fn a_tenant_with_more_than_a_listing_hides_nobody() {
    let fake = Fake::new();
    for n in 0..1_400 {
        let event = Event::new(
            &*fake,
            "admin",
            Some(&id("acme")),
            "x.y",
            format!("devices/{n}"),
        );
        block_on(audit::note(&*fake, &event));
    }
    for other in ["acme-2", "acme.de", "acme0", "zeta"] {
        let event = Event::new(&*fake, "admin", Some(&id(other)), "x.y", "devices/1".into());
        block_on(audit::note(&*fake, &event));
    }
    run(&fake);
    run(&fake);
    for other in ["acme-2", "acme.de", "acme0", "zeta"] {
        assert_eq!(history(&fake, other).len(), 1, "{other}");
    }
}

#[test]
fn who_always_has_a_full_page_keeps_nobody_from_a_turn() {
    let fake = Fake::new();
    for n in 0..600 {
        for tenant in ["a", "b", "c"] {
            let event = Event::new(
                &*fake,
                "admin",
                Some(&id(tenant)),
                "x.y",
                format!("devices/{n}"),
            );
            block_on(audit::note(&*fake, &event));
        }
    }
    for _ in 0..3 {
        run(&fake);
    }
    for tenant in ["a", "b", "c"] {
        assert!(history(&fake, tenant).len() >= 100, "{tenant}");
    }
}

// Somebody changes the bucket

/// Three pages of five entries.
fn three_pages() -> Rc<Fake> {
    let fake = Fake::new();
    for n in 0..3 {
        notes(&fake, n * 5..n * 5 + 5);
        run(&fake);
    }
    assert_eq!(fake.r2.keys("audit/acme/").len(), 3);
    assert_eq!(verify(&fake)["entries"], 15);
    fake
}

/// Writes a page, sees what is said of it, and puts it back.
fn with_page(fake: &Fake, n: u32, body: &[u8]) -> Value {
    let before = read(fake, &page(n));
    write(fake, &page(n), body);
    let answer = verify(fake);
    write(fake, &page(n), &before);
    answer
}

fn found(answer: &Value, at: u64) {
    assert_eq!(answer["verified"], false, "{answer}");
    assert_eq!(answer["at"], at, "{answer}");
    assert!(!answer["why"].as_str().unwrap().is_empty());
}

#[test]
fn a_byte_that_was_changed_is_found_wherever_it_is() {
    let fake = three_pages();
    for n in 1..=3 {
        let body = read(&fake, &page(n));
        let mut line = 0;
        for at in 0..body.len() {
            let mut changed = body.clone();
            changed[at] ^= 1;
            let answer = with_page(&fake, n, &changed);
            let entry = u64::from((n - 1) * 5 + line + 1);
            assert_eq!(answer["verified"], false, "page {n} byte {at}");
            // The last line break is the page's.
            if at + 1 < body.len() {
                found(&answer, entry);
            }
            line += u32::from(body[at] == b'\n');
        }
    }
    assert_eq!(verify(&fake)["verified"], true);
}

/// The lines of a page with hashes that somebody worked out anew, as anybody can.
fn forged(former: &str, entries: &[String]) -> (Vec<u8>, String) {
    let mut hash = former.to_owned();
    let mut page = String::new();
    for entry in entries {
        hash = hex(&Sha256::digest(format!("{hash}{entry}")));
        page = format!("{page}{hash} {entry}\n");
    }
    (page.into_bytes(), hash)
}

#[test]
fn entries_that_are_removed_swapped_or_made_up_are_found() {
    let fake = three_pages();
    let body = String::from_utf8(read(&fake, &page(2))).unwrap();
    let lines: Vec<&str> = body.lines().collect();
    let join = |order: &[usize]| {
        let lines: Vec<&str> = order.iter().map(|n| lines[*n]).collect();
        format!("{}\n", lines.join("\n")).into_bytes()
    };
    for (order, at) in [
        (&[1, 2, 3, 4][..], 6),
        (&[0, 1, 3, 4], 8),
        (&[0, 2, 1, 3, 4], 7),
        (&[0, 0, 1, 2, 3, 4], 7),
        // What is missing at the end of a page shows at the next.
        (&[0, 1, 2, 3], 10),
    ] {
        found(&with_page(&fake, 2, &join(order)), at);
    }
    // The end of the last page is the head's to say.
    let last = read(&fake, &page(3));
    let cut = last.split(|b| *b == b'\n').take(4).collect::<Vec<_>>();
    found(
        &with_page(&fake, 3, &[cut.join(&b'\n'), b"\n".to_vec()].concat()),
        15,
    );

    // With hashes that fit: everything from there on is rewritten, and the head does not fit.
    let entries_of = |n: u32| chain::links(&read(&fake, &page(n))).unwrap();
    let hash = |n: u32| entries_of(n).last().unwrap().hash.clone();
    let entries = |n: u32| {
        let entries = entries_of(n).into_iter().map(|link| link.json);
        entries.collect::<Vec<_>>()
    };
    let mut second = entries(2);
    second[2] = second[2].replace("devices/7", "devices/70");
    let (second, end) = forged(&hash(1), &second);
    let (third, _) = forged(&end, &entries(3));
    let before = read(&fake, &page(3));
    write(&fake, &page(3), &third);
    found(&with_page(&fake, 2, &second), 15);
    write(&fake, &page(3), &before);
    assert_eq!(verify(&fake)["verified"], true);
}

#[test]
fn pages_that_are_removed_or_swapped_are_found() {
    let fake = three_pages();
    for n in 1..=3 {
        let body = read(&fake, &page(n));
        remove(&fake, &page(n));
        found(&verify(&fake), u64::from((n - 1) * 5 + 1));
        write(&fake, &page(n), &body);
    }
    let (second, third) = (read(&fake, &page(2)), read(&fake, &page(3)));
    write(&fake, &page(2), &third);
    write(&fake, &page(3), &second);
    found(&verify(&fake), 6);
    // Nothing is covered up by what is chained later.
    notes(&fake, 15..20);
    run(&fake);
    run(&fake);
    found(&verify(&fake), 6);
    assert!(fake.logged().contains("Error audit.broken"));
    assert_eq!(fake.r2.keys("audit-new/").len(), 0);
}

#[test]
fn a_head_that_was_replaced_is_found_and_nothing_is_chained_behind_it() {
    let fake = Fake::new();
    let mut heads = Vec::new();
    for n in 0..3 {
        notes(&fake, n * 5..n * 5 + 5);
        run(&fake);
        heads.push(read(&fake, HEAD));
    }
    notes(&fake, 15..17);
    let pages = fake.r2.keys("audit/");
    let stands_still = |at| {
        found(&verify(&fake), at);
        run(&fake);
        assert_eq!(fake.r2.keys("audit/"), pages);
        assert_eq!(fake.r2.keys("audit-new/").len(), 2);
        found(&verify(&fake), at);
    };
    // With another signature, number, or hash; of another tenant; nothing at all.
    let head = String::from_utf8(heads[2].clone()).unwrap();
    for forged in [
        head.replace("\"page\":3", "\"page\":2"),
        head.replace("\"seq\":15", "\"seq\":14"),
        format!("{}{}", "0".repeat(64), &head[64..]),
        head[65..].to_owned(),
        String::new(),
    ] {
        write(&fake, HEAD, forged.as_bytes());
        stands_still(0);
        // What is to be believed is not shown.
        let answer = call(&fake, Method::GET, "audit?tenant=acme", &Value::Null);
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    // One that we signed ourselves, earlier; or none, as before the first.
    write(&fake, HEAD, &heads[1]);
    stands_still(11);
    remove(&fake, HEAD);
    stands_still(1);
    // And with the pages behind it gone, which only KV remembers.
    let third = read(&fake, &page(3));
    write(&fake, HEAD, &heads[1]);
    remove(&fake, &page(3));
    found(&verify(&fake), 11);
    run(&fake);
    assert_eq!(fake.r2.keys("audit-new/").len(), 2);
    found(&verify(&fake), 11);
    // Put right, it goes on.
    write(&fake, &page(3), &third);
    write(&fake, HEAD, &heads[2]);
    run(&fake);
    assert_eq!(verify(&fake)["entries"], 17);
}

#[test]
fn without_kv_too_an_older_head_is_found_by_the_page_behind_it() {
    let fake = Fake::new();
    let mut heads = Vec::new();
    for n in 0..2 {
        notes(&fake, n * 5..n * 5 + 5);
        run(&fake);
        heads.push(read(&fake, HEAD));
    }
    let empty = Fake::new().kv.backup();
    fake.kv.restore(&empty);
    notes(&fake, 10..12);
    write(&fake, HEAD, &heads[0]);
    found(&verify(&fake), 6);
    run(&fake);
    assert!(fake.logged().contains("the page behind the head"));
    found(&verify(&fake), 6);
    assert_eq!(fake.r2.keys("audit-new/").len(), 2);
    // KV, on the other hand, makes nothing true or untrue by failing.
    write(&fake, HEAD, &heads[1]);
    *fake.kv.failing.borrow_mut() = Failing::All;
    assert_eq!(verify(&fake)["entries"], 10);
    pass(&*fake);
    assert_eq!(verify(&fake)["entries"], 12);
}

#[test]
fn an_event_that_somebody_else_put_there_is_an_alarm_and_no_event() {
    let fake = Fake::new();
    notes(&fake, 0..2);
    let names = fake.r2.keys("audit-new/acme/");
    let made_up = String::from_utf8(read(&fake, &names[0])).unwrap();
    // Changed where it waits, put beside, moved to another tenant, no event at all.
    write(&fake, &names[0], made_up.replace("/0", "/9").as_bytes());
    write(&fake, "audit-new/acme/001795424400-x", made_up.as_bytes());
    write(&fake, "audit-new/other/001795424400-x", made_up.as_bytes());
    write(&fake, "audit-new/acme/zzz", b"\xff");
    // A name that is no time, or one that nobody can write.
    write(&fake, "audit-new/acme/999999999999-\n \u{2028}", b"{}");
    run(&fake);
    let links = history(&fake, "acme");
    assert_eq!(numbers(&links), [1]);
    let forged: Vec<&Event> = links
        .iter()
        .map(|link| &link.entry.event)
        .filter(|event| event.action == "audit.forged")
        .collect();
    assert_eq!(forged.len(), 4);
    assert!(
        forged
            .iter()
            .all(|event| event.alarm && event.detail["sha256"].len() == 64)
    );
    assert_eq!(
        history(&fake, "other")[0].entry.event.action,
        "audit.forged"
    );
    assert_eq!(fake.r2.keys("audit-new/"), Vec::<String>::new());
    assert_eq!(verify(&fake)["verified"], true);
}

#[test]
fn a_long_chain_is_verified_in_parts() {
    let fake = Fake::new();
    for n in 0..120 {
        notes(&fake, n..n + 1);
        pass(&*fake);
    }
    let mut entries = Vec::new();
    let mut cursor = String::new();
    let last = loop {
        let answer = ask(&fake, &format!("verify=1&tenant=acme{cursor}"));
        entries.push(answer["entries"].as_u64().unwrap());
        match answer["cursor"].as_str() {
            None => break answer,
            Some(next) => cursor = format!("&cursor={next}"),
        }
        assert_eq!(answer.get("verified"), None);
    };
    assert_eq!(entries, [50, 100, 120]);
    assert_eq!(last["verified"], true);
    // A cursor is only as good as what it says.
    let lies = format!("verify=1&tenant=acme&cursor=50.50.{}", "0".repeat(64));
    found(&ask(&fake, &lies), 51);
    for wrong in ["x", "1.2", "a.b.c", "-1.2.3"] {
        let path = format!("audit?verify=1&cursor={wrong}");
        let answer = call(&fake, Method::GET, &path, &Value::Null);
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{wrong}");
    }
}

// Runs that are killed, that fail, that overlap

/// How the bucket behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Fine,
    /// Each call takes a while, the length of which comes from this state.
    Slow(u64),
    /// After so many calls the Worker is killed, or the call fails; and what was asked for took place, or not.
    Ends {
        calls: u32,
        kills: bool,
        takes_place: bool,
    },
}

/// The bucket, on a way that may be cut.
pub struct Wire {
    fake: Rc<Fake>,
    pub mood: Cell<Mood>,
}

/// Ready after so many polls.
struct After(u64);

impl Future for After {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Polled<'_>) -> Poll<()> {
        if self.0 == 0 {
            return Poll::Ready(());
        }
        self.0 -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Wire {
    async fn through<T>(&self, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        match self.mood.get() {
            Mood::Fine => call.await,
            Mood::Slow(state) => {
                // Xorshift64 (Marsaglia 2003).
                let mut next = state;
                next ^= next << 13;
                next ^= next >> 7;
                next ^= next << 17;
                self.mood.set(Mood::Slow(next));
                // Now and then one hangs.
                let while_of = |n: u64| if n.is_multiple_of(16) { 400 } else { n % 4 };
                After(while_of(next)).await;
                let answer = call.await;
                After(while_of(next >> 8)).await;
                answer
            }
            Mood::Ends {
                calls: 0,
                kills,
                takes_place,
            } => {
                if takes_place {
                    call.await?;
                }
                if kills {
                    pending::<()>().await;
                }
                self.mood.set(Mood::Fine);
                Err(Fault::Broken("r2"))
            }
            Mood::Ends {
                calls,
                kills,
                takes_place,
            } => {
                let calls = calls - 1;
                self.mood.set(Mood::Ends {
                    calls,
                    kills,
                    takes_place,
                });
                call.await
            }
        }
    }
}

impl Objects for Wire {
    async fn get(&self, key: &str) -> Result<Option<Object>, Fault> {
        self.through(self.fake.r2.get(key)).await
    }

    async fn put(
        &self,
        key: &str,
        body: Vec<u8>,
        metadata: BTreeMap<String, String>,
        only: Only<'_>,
    ) -> Result<Option<String>, Fault> {
        self.through(self.fake.r2.put(key, body, metadata, only))
            .await
    }

    async fn delete(&self, key: &str) -> Result<(), Fault> {
        self.through(self.fake.r2.delete(key)).await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<(), Fault> {
        self.through(self.fake.r2.delete_many(keys)).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<ObjectEntry>, Fault> {
        self.through(self.fake.r2.list(prefix, after, limit)).await
    }
}

/// The same world with that way to the bucket, and perhaps with other keys.
pub struct Site {
    fake: Rc<Fake>,
    pub r2: Wire,
    keys: Keys,
}

impl Site {
    pub fn new(fake: &Rc<Fake>, mood: Mood) -> Self {
        Self::with_keys(fake, mood, SEAL_KEY, None)
    }

    fn with_keys(fake: &Rc<Fake>, mood: Mood, now: &str, old: Option<&str>) -> Self {
        Self {
            fake: Rc::clone(fake),
            r2: Wire {
                fake: Rc::clone(fake),
                mood: Cell::new(mood),
            },
            keys: Keys::new(Some(ADMIN_TOKEN), Some(now), old).ok().unwrap(),
        }
    }
}

impl World for Site {
    type Mappings = Kv;
    type Objects = Wire;
    type Outbound = Net;

    fn r2(&self) -> &Wire {
        &self.r2
    }

    fn keys(&self) -> &Keys {
        &self.keys
    }

    as_the_fake! { kv net now sleep_ms random memory verify_rs256 within log }
}

/// What a webhook was sent: each call's body and signature.
type Inbox = Rc<RefCell<Vec<(String, String)>>>;

/// A webhook that answers with this status.
fn hook(fake: &Fake, status: &Rc<Cell<u16>>) -> Inbox {
    let inbox = Inbox::default();
    let (kept, status) = (Rc::clone(&inbox), Rc::clone(status));
    fake.net.answer(move |request| {
        assert_eq!(request.uri(), HOOK);
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.headers()["content-type"], "application/json");
        let signature = request.headers().get("dialtone-signature");
        let signature = signature.map_or("", |value| value.to_str().unwrap());
        let body = String::from_utf8(request.body().clone()).unwrap();
        kept.borrow_mut().push((body, signature.to_owned()));
        let answer = http::Response::builder().status(status.get());
        let answer = answer.header("location", "https://elsewhere.example.com/");
        Ok(answer.body(Vec::new()).unwrap())
    });
    inbox
}

fn with_hook(secret: &Value) -> (Rc<Fake>, Rc<Cell<u16>>, Inbox) {
    let fake = Fake::new();
    let webhook = json!({ "url": HOOK, "secret": secret });
    put(&fake, "tenants/acme", &json!({ "webhook": webhook }));
    let status = Rc::new(Cell::new(200));
    let inbox = hook(&fake, &status);
    // What was saved is chained, so that the tests begin with an empty list.
    run(&fake);
    (fake, status, inbox)
}

/// The devices that the alarms of an inbox are about.
fn alarmed(inbox: &Inbox) -> Vec<u32> {
    let bodies = inbox.borrow();
    let bodies = bodies
        .iter()
        .map(|(body, _)| serde_json::from_str::<Value>(body).unwrap());
    bodies
        .map(|body| {
            assert_eq!(body["alarm"], true);
            let resource = body["resource"].as_str().unwrap();
            resource.strip_prefix("devices/").unwrap().parse().unwrap()
        })
        .collect()
}

#[test]
fn a_run_that_ends_anywhere_loses_and_doubles_nothing() {
    let mut ended = 0;
    for (kills, takes_place) in [(true, false), (true, true), (false, false), (false, true)] {
        for calls in 0.. {
            let (fake, _, inbox) = with_hook(&Value::Null);
            notes(&fake, 0..3);
            note(&*fake, &fake, 3, true);
            note(&*fake, &fake, 4, false);
            let mood = Mood::Ends {
                calls,
                kills,
                takes_place,
            };
            let site = Site::new(&fake, mood);
            let run_calls = Cell::new(900);
            {
                let allowance = Allowance::new(&run_calls, chaining::CALLS);
                let mut pass = pin!(chaining::pass(&site, site.now(), &allowance));
                let mut context = Polled::from_waker(Waker::noop());
                for _ in 0..10 {
                    if pass.as_mut().poll(&mut context).is_ready() {
                        break;
                    }
                }
            }
            // Whatever is there then is no sign of anything bad.
            assert_ne!(verify(&fake)["verified"], false, "{mood:?}");
            let expected = ["4", "3", "2", "1", "0"].map(|n| format!("devices/{n}"));
            for limit in [2, 200] {
                let query = format!("tenant=acme&action=device.armed&limit={limit}");
                let listed = list(&fake, &query, || {});
                assert_eq!(resources(&listed), expected, "{mood:?} {limit}");
            }
            notes(&fake, 5..7);
            for _ in 0..3 {
                run(&fake);
            }
            let links = history(&fake, "acme");
            assert_eq!(numbers(&links), (0..7).collect::<Vec<_>>(), "{mood:?}");
            assert_eq!(fake.r2.keys("audit-new/"), Vec::<String>::new(), "{mood:?}");
            assert_eq!(verify(&fake)["entries"], links.len(), "{mood:?}");
            let sent = alarmed(&inbox);
            assert!((1..=2).contains(&sent.len()), "{mood:?} {sent:?}");
            assert!(!fake.logged().contains("audit.broken"), "{mood:?}");
            if matches!(site.r2.mood.get(), Mood::Ends { calls: 1.., .. }) {
                // It was through before.
                break;
            }
            ended += 1;
        }
    }
    assert!(ended > 60, "{ended}");
}

#[test]
fn overlapping_runs_lose_and_double_nothing() {
    for seed in 1..400 {
        let (fake, _, inbox) = with_hook(&Value::Null);
        notes(&fake, 0..4);
        note(&*fake, &fake, 4, true);
        let slow = |n: u64| Site::new(&fake, Mood::Slow(seed * 7_919 + n));
        let sites = [slow(1), slow(2), slow(3)];
        let calls = Cell::new(2_700);
        let allowances = [(); 3].map(|()| Allowance::new(&calls, chaining::CALLS));
        let one = |n: usize| chaining::pass(&sites[n], fake.now(), &allowances[n]);
        let late = async {
            After(seed % 23).await;
            for n in 5..9 {
                note_async(&fake, n).await;
                After(5).await;
            }
            one(2).await;
        };
        block_on(join(join(one(0), one(1)), late));
        for _ in 0..3 {
            run(&fake);
        }
        let links = history(&fake, "acme");
        let chained: BTreeSet<u32> = numbers(&links).into_iter().collect();
        assert_eq!(numbers(&links).len(), 9, "{seed}");
        assert_eq!(chained, (0..9).collect(), "{seed}");
        assert_eq!(fake.r2.keys("audit-new/"), Vec::<String>::new(), "{seed}");
        assert_eq!(verify(&fake)["verified"], true, "{seed}");
        assert!(!fake.logged().contains("audit.broken"), "{seed}");
        let sent = alarmed(&inbox);
        assert!(!sent.is_empty() && sent.iter().all(|n| *n == 4), "{seed}");
    }
}

#[test]
fn a_run_that_hangs_before_it_moves_the_head_does_not_move_it_back() {
    let fake = Fake::new();
    notes(&fake, 0..3);
    let others = Rc::clone(&fake);
    fake.r2.before_next_put(HEAD, move || {
        // Another one takes the page over, and a third chains what came since.
        pass(&*others);
        notes(&others, 3..5);
        pass(&*others);
    });
    pass(&*fake);
    assert_eq!(numbers(&history(&fake, "acme")), [0, 1, 2, 3, 4]);
    assert_eq!(verify(&fake)["entries"], 5);
    notes(&fake, 5..6);
    run(&fake);
    assert_eq!(verify(&fake)["entries"], 6);
}

async fn note_async(fake: &Fake, n: u32) {
    let resource = format!("devices/{n}");
    let event = Event::new(fake, "admin", Some(&id("acme")), "device.armed", resource);
    audit::note(fake, &event).await;
}

#[test]
fn a_head_is_signed_with_the_key_in_use_so_that_the_old_one_can_go() {
    const OTHER: &str = "YW5vdGhlciBrZXkgb2YgdGhpcnR5LXR3byBieXRlcyE=";
    let fake = three_pages();
    let changing = Site::with_keys(&fake, Mood::Fine, OTHER, Some(SEAL_KEY));
    fake.clock.pass_s(60);
    pass(&changing);
    let after = Site::with_keys(&fake, Mood::Fine, OTHER, None);
    notes_of(&after, 15..17);
    fake.clock.pass_s(60);
    pass(&after);
    assert_eq!(history(&fake, "acme").len(), 17);
    assert!(!fake.logged().contains("audit.broken"));
    // What neither key signed is not made good.
    let fake = three_pages();
    let head = String::from_utf8(read(&fake, HEAD)).unwrap();
    let forged = head.replace("\"seq\":15", "\"seq\":14");
    write(&fake, HEAD, forged.as_bytes());
    pass(&Site::with_keys(&fake, Mood::Fine, OTHER, Some(SEAL_KEY)));
    assert_eq!(read(&fake, HEAD), forged.as_bytes());
}

fn notes_of(site: &Site, numbers: std::ops::Range<u32>) {
    for n in numbers {
        note(site, &site.fake, n, false);
    }
}

// The list

#[test]
fn a_list_shows_what_waits_and_what_is_chained_newest_first() {
    let fake = Fake::new();
    notes(&fake, 0..120);
    run(&fake);
    // The 20 that were too many for a page wait, and three more.
    notes(&fake, 120..123);
    let expected: Vec<String> = (0..123).rev().map(|n| format!("devices/{n}")).collect();
    for limit in [1, 7, 22, 23, 24, 50, 200] {
        let items = list(&fake, &format!("tenant=acme&limit={limit}"), || {});
        assert_eq!(resources(&items), expected, "{limit}");
        let waits = |item: &&Value| item.get("seq").is_none() && item.get("hash").is_none();
        assert_eq!(items.iter().filter(waits).count(), 23);
    }
    let first = ask(&fake, "tenant=acme&limit=1");
    assert_eq!(first["items"].as_array().unwrap().len(), 1);
}

#[test]
fn paging_goes_on_exactly_while_events_come_and_are_chained() {
    for limit in [1, 3, 10, 29, 31] {
        let fake = Fake::new();
        notes(&fake, 0..20);
        run(&fake);
        notes(&fake, 20..50);
        let expected: Vec<String> = (0..50).rev().map(|n| format!("devices/{n}")).collect();
        let more = Cell::new(50);
        let items = list(&fake, &format!("tenant=acme&limit={limit}"), || {
            let n = more.get();
            if n < 70 {
                notes(&fake, n..n + 2);
                more.set(n + 2);
                pass(&*fake);
            }
        });
        assert_eq!(resources(&items), expected, "{limit}");
    }
}

#[test]
fn filters_are_exact_and_the_resource_is_a_prefix() {
    let fake = Fake::new();
    let at = |s: u64| Timestamp(START_S + s).to_string();
    for (n, (actor, action, resource)) in [
        ("admin", "device.armed", "devices/aa01"),
        ("ci-bot", "device.armed", "devices/aa02"),
        ("admin", "device.armed.twice", "devices/bb01"),
        ("admin", "record.changed", "accounts/aa"),
        ("administrator", "record.changed", "devices/aa01"),
    ]
    .into_iter()
    .enumerate()
    {
        let action: &'static str = action;
        let event = Event::new(&*fake, actor, Some(&id("acme")), action, resource.into());
        block_on(audit::note(&*fake, &event));
        fake.clock.pass_s(10);
        if n == 2 {
            pass(&*fake);
        }
    }
    let asked = |query: &str| {
        let items = list(&fake, &format!("tenant=acme&{query}"), || {});
        let numbers = items.iter().map(|item| {
            let at: Timestamp = serde_json::from_value(item["at"].clone()).unwrap();
            (at.0 - START_S) / 10
        });
        numbers.collect::<Vec<_>>()
    };
    for pass_first in [false, true] {
        if pass_first {
            pass(&*fake);
        }
        assert_eq!(asked("actor=admin"), [3, 2, 0]);
        assert_eq!(asked("action=device.armed"), [1, 0]);
        assert_eq!(asked("resource=devices/aa"), [4, 1, 0]);
        assert_eq!(asked("resource=devices/aa01&actor=admin"), [0]);
        assert_eq!(asked(&format!("from={}", at(20))), [4, 3, 2]);
        assert_eq!(asked(&format!("to={}", at(20))), [1, 0]);
        assert_eq!(asked(&format!("from={}&to={}", at(10), at(31))), [3, 2, 1]);
        assert_eq!(asked("actor=nobody"), Vec::<u64>::new());
    }
    for wrong in [
        "limit=0",
        "limit=201",
        "limit=x",
        "from=yesterday",
        "to=2026-11-23",
        "tenant=A%20b",
        "verify=2",
        "cursor=x",
        "cursor=c.1",
        "cursor=w.x.y",
        "colour=red",
        "verify=1&actor=admin",
        "verify=1&limit=5",
    ] {
        let answer = call(&fake, Method::GET, &format!("audit?{wrong}"), &Value::Null);
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{wrong}");
    }
    let answer = call(&fake, Method::POST, "audit", &json!({}));
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn a_list_that_finds_little_reads_only_so_much_and_says_where_to_go_on() {
    let fake = Fake::new();
    for n in 0..60 {
        notes(&fake, n..n + 1);
        pass(&*fake);
    }
    fake.r2.take_count();
    let answer = ask(&fake, "tenant=acme&resource=devices/3&limit=200");
    assert!(fake.r2.take_count().all() < 30);
    assert!(answer["cursor"].is_string());
    let items = list(&fake, "tenant=acme&resource=devices/3&limit=200", || {});
    assert_eq!(items.len(), 11);
    // As many wait: no more than a hundred are read.
    notes(&fake, 60..400);
    fake.r2.take_count();
    ask(&fake, "tenant=acme&actor=nobody");
    assert!(fake.r2.take_count().all() < 110);
    assert_eq!(list(&fake, "tenant=acme", || {}).len(), 400);
}

#[test]
fn a_caller_of_one_tenant_sees_that_tenants_alone() {
    let fake = Fake::new();
    for tenant in [Some("acme"), Some("other"), None] {
        let tenant = tenant.map(id);
        let event = Event::new(&*fake, "admin", tenant.as_ref(), "x.y", "devices/1".into());
        block_on(audit::note(&*fake, &event));
    }
    let asked = |tenant: Option<&str>, query: &str| {
        let context = Context {
            origin: ORIGIN.to_owned(),
            loopback: false,
            caller: Caller {
                name: "token".to_owned(),
                role: Role::Reader,
                tenant: tenant.map(id),
                expires_at: None,
                held_until: None,
            },
        };
        let request = get(&format!("/api/v1/audit?{query}"));
        assert_eq!(request.host, HOST);
        match block_on(admin::audit::answer(&*fake, &context, &request)) {
            Ok(answer) => json_of(&answer),
            Err(Failure::Problem(problem)) => panic!("{problem:?}"),
            Err(Failure::Fault(fault)) => panic!("{fault:?}"),
        }
    };
    for chained in [false, true] {
        if chained {
            pass(&*fake);
        }
        let tenants = |tenant, query: &str| {
            let answer = asked(tenant, query);
            let items = answer["items"].as_array().unwrap().clone();
            let tenants = items.into_iter().map(|item| item["tenant"].clone());
            tenants.collect::<Vec<_>>()
        };
        assert_eq!(tenants(Some("acme"), ""), [json!("acme")]);
        assert_eq!(tenants(Some("acme"), "tenant=acme"), [json!("acme")]);
        assert_eq!(tenants(None, ""), [Value::Null]);
        assert_eq!(tenants(None, "tenant=other"), [json!("other")]);
        // Another tenant's looks as that of one that there is not.
        for query in ["tenant=other", "verify=1&tenant=other"] {
            let none = query.replace("other", "nobody");
            assert_eq!(asked(Some("acme"), query), asked(Some("acme"), &none));
            assert_eq!(asked(Some("acme"), query), asked(None, &none));
        }
    }
    assert_eq!(asked(Some("acme"), "verify=1")["entries"], 1);
}

#[test]
fn refused_logins_are_logged_and_buy_no_write() {
    let fake = Fake::new();
    fake.r2.take_count();
    for n in 0..50 {
        let request = get("/api/v1/audit").with("authorization", &format!("Bearer wrong-{n}"));
        assert_eq!(fetch(&fake, &request).status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(fake.r2.take_count().all() + fake.kv.take_count().all(), 0);
    assert_eq!(fake.logged().matches("admin.unauthorized").count(), 50);
}

// The webhook

#[test]
fn an_alarm_is_posted_as_it_is_chained_and_signed() {
    let (fake, _, inbox) = with_hook(&json!(HOOK_SECRET));
    note(&*fake, &fake, 1, false);
    note(&*fake, &fake, 2, true);
    assert!(inbox.borrow().is_empty());
    run(&fake);
    let sent = inbox.borrow().clone();
    let [(body, signature)] = sent.as_slice() else {
        panic!("{sent:?}");
    };
    let links = history(&fake, "acme");
    let last = links.last().unwrap();
    assert_eq!(*body, last.json);
    let event: Value = serde_json::from_str(body).unwrap();
    assert_eq!(event["seq"], last.entry.seq);
    assert_eq!(event["resource"], "devices/2");
    assert_eq!(
        *signature,
        format!("sha256={}", hmac_hex(HOOK_SECRET, body.as_bytes()).unwrap())
    );
    // Once is enough.
    run(&fake);
    run(&fake);
    assert_eq!(inbox.borrow().len(), 1);
    assert_eq!(fake.r2.keys("audit-new/"), Vec::<String>::new());
}

#[test]
fn a_signature_is_what_others_work_out() {
    // RFC 4231, test case 2.
    assert_eq!(
        hmac_hex("Jefe", b"what do ya want for nothing?").unwrap(),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
}

#[test]
fn a_webhook_is_held_to_the_policy_of_urls_and_its_secret_is_kept() {
    let (fake, _, inbox) = with_hook(&json!(HOOK_SECRET));
    for wrong in [
        "http://alarms.example.com/",
        "https://192.0.2.1/",
        "https://localhost/",
        "https://pbx/",
        "ftp://alarms.example.com/",
        "https://user:password@alarms.example.com/",
    ] {
        let body = json!({ "webhook": { "url": wrong } });
        let answer = call(&fake, Method::PUT, "tenants/acme", &body);
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
        let problem: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(problem["errors"][0]["pointer"], "/webhook/url", "{wrong}");
    }
    let unknown = json!({ "webhook": { "url": HOOK, "token": "x" } });
    let answer = call(&fake, Method::PUT, "tenants/acme", &unknown);
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);

    let shown = json_of(&call(&fake, Method::GET, "tenants/acme", &Value::Null));
    assert_eq!(shown["webhook"], json!({ "url": HOOK }));
    for kept in [
        json!({ "name": "Acme" }),
        json!({ "webhook": { "url": HOOK, "secret": null } }),
    ] {
        patch(&fake, "tenants/acme", &kept);
    }
    put(
        &fake,
        "tenants/acme",
        &json!({ "webhook": { "url": HOOK } }),
    );
    note(&*fake, &fake, 1, true);
    run(&fake);
    let (body, signature) = inbox.borrow()[0].clone();
    assert_eq!(
        signature,
        format!("sha256={}", hmac_hex(HOOK_SECRET, body.as_bytes()).unwrap())
    );
    let kept = [fake.dump(), fake.logged().into_bytes()].concat();
    assert!(!String::from_utf8_lossy(&kept).contains(HOOK_SECRET));
    // Without the webhook there is no secret either, and nothing is kept for it.
    put(&fake, "tenants/acme", &json!({}));
    put(
        &fake,
        "tenants/acme",
        &json!({ "webhook": { "url": HOOK } }),
    );
    note(&*fake, &fake, 2, true);
    run(&fake);
    assert_eq!(inbox.borrow()[1].1, "");
}

#[test]
fn a_webhook_that_fails_is_tried_again_and_holds_up_no_chain() {
    let (fake, status, inbox) = with_hook(&Value::Null);
    for failing in [500, 302, 404] {
        inbox.borrow_mut().clear();
        status.set(failing);
        for n in 0..3 {
            note(&*fake, &fake, n, true);
        }
        let before = history(&fake, "acme").len();
        run(&fake);
        assert_eq!(history(&fake, "acme").len(), before + 3, "{failing}");
        // The first has failed; the others wait behind it.
        assert_eq!(alarmed(&inbox), [0]);
        let mut tries = 1;
        for _ in 0..60 {
            run(&fake);
            tries = inbox.borrow().len();
        }
        // 30 s, a minute, two, four, eight, sixteen, thirty.
        assert!((6..=8).contains(&tries), "{tries}");
        status.set(200);
        for _ in 0..32 {
            run(&fake);
        }
        assert_eq!(alarmed(&inbox)[tries..], [0, 1, 2]);
        assert!(fake.logged().contains(&format!("why=\"http {failing}\"")));
        assert_eq!(fake.r2.keys("audit-new/"), Vec::<String>::new());
    }
    // Each time it began to fail is an entry, and only that.
    let failed = list(&fake, "tenant=acme&action=webhook.failed", || {});
    let why: Vec<&str> = failed
        .iter()
        .map(|e| e["detail"]["why"].as_str().unwrap())
        .collect();
    assert_eq!(why, ["http 404", "http 302", "http 500"]);
    assert_eq!(verify(&fake)["verified"], true);
}

#[test]
fn alarms_wait_for_a_day_and_a_hundred_at_most() {
    let (fake, status, inbox) = with_hook(&Value::Null);
    status.set(500);
    for n in 0..130 {
        note(&*fake, &fake, n, true);
    }
    run(&fake);
    run(&fake);
    note(&*fake, &fake, 130, true);
    for _ in 0..40 {
        run(&fake);
    }
    status.set(200);
    inbox.borrow_mut().clear();
    for _ in 0..60 {
        run(&fake);
    }
    // The newest hundred, in order, at most 20 in a run.
    assert_eq!(alarmed(&inbox), (31..131).collect::<Vec<_>>());
    let gave_up = list(&fake, "tenant=acme&action=webhook.gave_up", || {});
    let given: u32 = gave_up
        .iter()
        .map(|event| {
            event["detail"]["alarms"]
                .as_str()
                .unwrap()
                .parse::<u32>()
                .unwrap()
        })
        .sum();
    assert_eq!(given, 31);

    status.set(500);
    note(&*fake, &fake, 200, true);
    run(&fake);
    fake.clock.pass_s(86_400);
    note(&*fake, &fake, 201, true);
    run(&fake);
    inbox.borrow_mut().clear();
    status.set(200);
    for _ in 0..35 {
        run(&fake);
    }
    assert_eq!(alarmed(&inbox), [201]);
    assert_eq!(fake.r2.keys("audit-new/"), Vec::<String>::new());
    // An alarm about a webhook that fails would go to the webhook that fails.
    for action in ["webhook.failed", "webhook.gave_up"] {
        for event in list(&fake, &format!("tenant=acme&action={action}"), || {}) {
            assert_eq!(event.get("alarm"), None);
        }
    }
}

#[test]
fn alarms_that_nobody_wants_any_more_are_dropped() {
    let (fake, status, inbox) = with_hook(&Value::Null);
    status.set(500);
    note(&*fake, &fake, 1, true);
    run(&fake);
    patch(&fake, "tenants/acme", &json!({ "webhook": null }));
    for _ in 0..3 {
        run(&fake);
    }
    assert_eq!(inbox.borrow().len(), 1);
    assert_eq!(fake.r2.keys("audit-new/"), Vec::<String>::new());
}
