//! Two admins who edit one device at the same time, taking turns at each step of the store as the dice
//! fall: no edit is lost, and whoever did not see the other's is told.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::Poll;

use dialtone::entry;
use dialtone::fault::Fault;
use dialtone::ports::{Object, ObjectEntry, Objects, Only, Page, World};
use dialtone::serve::Place;
use futures_util::future::join;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::around::as_the_fake;
use crate::ask::{Told, call_by, get, header, json_of};
use crate::phone::{MAC, Office};
use crate::world::{ADMIN_TOKEN, Bucket, Fake, Kv, Net, block_on};

/// How many edits both make together.
const EDITS: u32 = 1_000;

/// A world whose store takes its time, now more and now less.
struct Turns<'a> {
    fake: &'a Fake,
    r2: Slow<'a>,
}

struct Slow<'a> {
    bucket: &'a Bucket,
    dice: &'a Cell<u64>,
}

impl Slow<'_> {
    async fn wait(&self) {
        // xorshift64 (Marsaglia 2003).
        let mut state = self.dice.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.dice.set(state);
        let mut left = state >> 62;
        poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

impl Objects for Slow<'_> {
    async fn get(&self, key: &str) -> Result<Option<Object>, Fault> {
        self.wait().await;
        self.bucket.get(key).await
    }

    async fn put(
        &self,
        key: &str,
        body: Vec<u8>,
        metadata: BTreeMap<String, String>,
        only: Only<'_>,
    ) -> Result<Option<String>, Fault> {
        self.wait().await;
        self.bucket.put(key, body, metadata, only).await
    }

    async fn delete(&self, key: &str) -> Result<(), Fault> {
        self.wait().await;
        self.bucket.delete(key).await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<(), Fault> {
        self.wait().await;
        self.bucket.delete_many(keys).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<ObjectEntry>, Fault> {
        self.wait().await;
        self.bucket.list(prefix, after, limit).await
    }
}

impl<'a> World for Turns<'a> {
    type Mappings = Kv;
    type Objects = Slow<'a>;
    type Outbound = Net;

    fn r2(&self) -> &Slow<'a> {
        &self.r2
    }

    async fn sleep_ms(&self, ms: u32) {
        self.r2.wait().await;
        self.fake.sleep_ms(ms).await;
    }

    as_the_fake! { kv net keys now random memory verify_rs256 within log }
}

async fn answer(
    world: &Turns<'_>,
    method: Method,
    tag: Option<&str>,
    body: &Value,
) -> Response<Vec<u8>> {
    let place = Place {
        public_url: None,
        access: None,
    };
    let mut request = call_by(ADMIN_TOKEN, method, &format!("devices/{MAC}"), body);
    if let Some(tag) = tag {
        request = request.with("if-match", tag);
    }
    Box::pin(entry::answer(world, &place, &request))
        .await
        .response
}

/// What one admin saw.
#[derive(Default)]
struct Seen {
    done: u32,
    conflicts: u32,
}

/// Adds one to the number in a label, until both together did so often enough.
async fn edit(world: &Turns<'_>, left: &Cell<u32>) -> Seen {
    let mut seen = Seen::default();
    while left.get() > 0 {
        let read = answer(world, Method::GET, None, &Value::Null).await;
        let tag = header(&read, "etag").to_owned();
        let record = json_of(&read);
        let n: u32 = record["lines"][0]["label"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        let mut line = record["lines"][0].clone();
        line["label"] = (n + 1).to_string().into();
        let change = json!({ "lines": [line] });
        let written = answer(world, Method::PATCH, Some(&tag), &change).await;
        match written.status() {
            StatusCode::OK => {
                left.set(left.get().saturating_sub(1));
                seen.done += 1;
            }
            StatusCode::PRECONDITION_FAILED => seen.conflicts += 1,
            other => panic!("{other}: {}", json_of(&written)),
        }
    }
    seen
}

#[test]
fn of_a_thousand_edits_of_two_admins_none_is_lost_and_each_conflict_is_a_412() {
    let office = Office::new();
    let dice = Cell::new(0x9e37_79b9_7f4a_7c15);
    let world = &Turns {
        fake: &office.fake,
        r2: Slow {
            bucket: &office.fake.r2,
            dice: &dice,
        },
    };
    let first = block_on(answer(world, Method::GET, None, &Value::Null));
    let mut line = json_of(&first)["lines"][0].clone();
    line["label"] = "0".into();
    let begun = block_on(answer(
        world,
        Method::PATCH,
        None,
        &json!({ "lines": [line] }),
    ));
    assert_eq!(begun.status(), StatusCode::OK);
    let revision = json_of(&begun)["revision"].as_u64().unwrap();

    let left = Cell::new(EDITS);
    let both = join(Box::pin(edit(world, &left)), Box::pin(edit(world, &left)));
    let (one, other) = block_on(both);

    let done = one.done + other.done;
    assert!(done >= EDITS && one.done > 0 && other.done > 0);
    assert!(
        one.conflicts + other.conflicts > EDITS / 10,
        "they hardly met"
    );
    let record = json_of(&block_on(answer(world, Method::GET, None, &Value::Null)));
    assert_eq!(record["lines"][0]["label"], done.to_string());
    assert_eq!(record["revision"], revision + u64::from(done));
    let acc = get(office.base.strip_prefix(crate::ask::ORIGIN).unwrap());
    let acc = crate::ask::fetch(
        &office.fake,
        &dialtone::request::Request {
            path: format!("{}ACC.cfg", acc.path),
            ..acc
        },
    );
    let text = String::from_utf8_lossy(acc.body()).into_owned();
    assert!(
        text.contains(&format!("account.1.label = {done}\n")),
        "{text}"
    );
}
