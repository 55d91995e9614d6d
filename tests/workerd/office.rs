//! The Worker that tests share, and a customer for each of them: with a name, MACs and source
//! addresses of its own, so that no test sees another.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dialtone_kit::http::{self, Request, Response};
use dialtone_kit::workerd::{Options, Workerd};
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::clear::{self, Secret};
use crate::phone::Yealink;

/// How long something may take that happens after the answer.
const SOON: Duration = Duration::from_secs(10);

/// The Worker that tests share. Its guard ends it with this process.
pub fn worker() -> &'static Workerd {
    static WORKER: LazyLock<Workerd> = LazyLock::new(|| {
        http::keep_answers();
        Workerd::start(&Options::new()).unwrap_or_else(|error| panic!("{error:?}"))
    });
    &WORKER
}

/// A customer with a PBX, two accounts and any number of phones.
#[derive(Debug)]
pub struct Office {
    pub id: String,
    pub url: String,
    pub admin: Admin,
}

/// A device and what its creation answered.
#[derive(Clone, Debug)]
pub struct Made {
    pub mac: String,
    pub serial: String,
    pub answer: Value,
}

/// Counts everything that must not come twice.
fn fresh() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A MAC that nobody has. The prefix is one of Yealink's.
pub fn fresh_mac() -> String {
    format!("805ec0{:06x}", fresh())
}

/// An address that nobody came from yet.
pub fn fresh_source() -> IpAddr {
    let [_, b, c, d] = fresh().to_be_bytes();
    Ipv4Addr::new(10, b, c, d).into()
}

/// Whatever a test did with its customer: none of its passwords stands in clear in what the shared
/// Worker keeps and logs, nor in any answer but a phone's own file.
impl Drop for Office {
    fn drop(&mut self) {
        if thread::panicking() || self.url != worker().url() {
            return;
        }
        let secrets: Vec<Secret> = vec![
            ("the first account's password", self.password("1001")),
            ("the second account's password", self.password("1002")),
            ("the ARI password", format!("{}-ari-password", self.id)),
        ];
        clear::not_in_files(worker().persist_dir(), &secrets, &self.account("1001")[9..]);
        clear::not_in("the log", &worker().log(), &secrets);
        http::each_answer(|name, text| {
            // With `secrets=1` an owner sees a phone's file as the phone gets it.
            if !name.contains("/p/") && !name.contains("secrets=1") {
                clear::not_in(name, text, &secrets);
            }
        });
    }
}

impl Office {
    /// A customer of the shared Worker; `id` is the test's own.
    pub fn open(id: &str) -> Self {
        Self::open_at(worker(), id, &json!({}))
    }

    /// A customer of a Worker, whose tenant has these members.
    pub fn open_at(worker: &Workerd, id: &str, tenant: &Value) -> Self {
        let admin = Admin::of(worker);
        admin.put(&format!("tenants/{id}"), tenant);
        let office = Self {
            id: id.to_owned(),
            url: worker.url(),
            admin,
        };
        // The shared Worker's cron is never triggered, so nobody ever calls there.
        office
            .admin
            .put(&office.pbx(), &office.pbx_at("http://127.0.0.1:1/ari"));
        for number in ["1001", "1002"] {
            let account = json!({
                "tenant": id,
                "pbx": format!("{id}-pbx"),
                "username": number,
                "password": office.password(number),
                "display_name": format!("Number {number}"),
                "voicemail": "*97",
            });
            office.admin.put(&office.account(number), &account);
        }
        office
    }

    /// The PBX's record, with another address.
    pub fn pbx_at(&self, ari_url: &str) -> Value {
        json!({
            "tenant": self.id,
            "ari_url": ari_url,
            "ari_username": "dialtone",
            "ari_password": format!("{}-ari-password", self.id),
            "sip": {"host": "sip.example.com"},
        })
    }

    /// The PBX's path.
    pub fn pbx(&self) -> String {
        format!("pbxes/{0}-pbx", self.id)
    }

    /// An account's path.
    pub fn account(&self, number: &str) -> String {
        format!("accounts/{}-{number}", self.id)
    }

    /// The password that an account was created with. A backslash and quotes are in it, which some
    /// format or other might take for something else.
    pub fn password(&self, number: &str) -> String {
        format!("{}-{number} \\\"'<&>%", self.id)
    }

    /// Adds a Yealink with the first account on its first line, and `more` members.
    pub fn yealink(&self, more: &Value) -> Made {
        self.device("yealink", "T46U", "1001", more)
    }

    /// Adds a Linphone with the second account.
    pub fn linphone(&self, more: &Value) -> Made {
        self.device("linphone", "Linphone", "1002", more)
    }

    fn device(&self, vendor: &str, model: &str, number: &str, more: &Value) -> Made {
        let mac = fresh_mac();
        let serial = format!("SN{:08}", fresh());
        let mut device = json!({
            "tenant": self.id,
            "vendor": vendor,
            "model": model,
            "serial": serial,
            "lines": [{"line": 1, "account": format!("{}-{number}", self.id)}],
        });
        merge(&mut device, more);
        let answer = self.admin.put(&format!("devices/{mac}"), &device);
        Made {
            mac,
            serial,
            answer,
        }
    }

    /// A question to the RPS; `rest` comes after `/rps`.
    pub fn rps(&self, rest: &str) -> Request {
        http::get(&format!("{}/rps{rest}", self.url)).source(fresh_source())
    }

    /// The look-up that a device's serial proves.
    #[track_caller]
    pub fn look_up(&self, made: &Made) -> Value {
        let answer = self
            .rps(&format!("?mac={}&serial={}", made.mac, made.serial))
            .send()
            .unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json().unwrap()
    }

    /// A Yealink out of its box that was told of the RPS, by DHCP perhaps.
    pub fn unbox(&self, made: &Made) -> Yealink {
        Yealink::new(&made.mac, &format!("{}/rps/", self.url), fresh_source())
    }

    /// How far a device is.
    pub fn status(&self, made: &Made) -> Value {
        self.admin.get(&format!("devices/{}/status", made.mac))
    }

    /// Waits until a device is so far: that is written after the phone has its answer.
    #[track_caller]
    pub fn wait_for(&self, made: &Made, stage: &str) {
        let seen = eventually(|| {
            let status = self.status(made);
            if status["status"] == stage {
                Ok(())
            } else {
                Err(status)
            }
        });
        assert_eq!(seen, Ok(()), "waited for {stage}");
    }
}

impl Made {
    /// `http://…/p/{token}/`, as the creation answered it.
    pub fn base(&self) -> &str {
        self.answer["provisioning_url"].as_str().unwrap()
    }

    /// `http://…/rps/{key}/`.
    pub fn first_access(&self) -> &str {
        self.answer["first_access"]["url"].as_str().unwrap()
    }

    /// One of its files, by its token.
    pub fn fetch(&self, name: &str) -> Response {
        fetch(self.base(), name)
    }
}

/// A file under a provisioning URL.
pub fn fetch(base: &str, name: &str) -> Response {
    http::get(&format!("{base}{name}")).send().unwrap()
}

/// Puts members into an object.
pub fn merge(into: &mut Value, more: &Value) {
    let members = more.as_object().unwrap().clone();
    into.as_object_mut().unwrap().extend(members);
}

/// Asks until it is so, and gives what was seen last if it never is.
pub fn eventually<T, E>(mut ask: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let start = Instant::now();
    loop {
        let seen = ask();
        if seen.is_ok() || start.elapsed() > SOON {
            return seen;
        }
        thread::sleep(Duration::from_millis(50));
    }
}
