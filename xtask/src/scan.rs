//! A stranger counts through the MACs of a maker, over real HTTP, and must learn nothing: no URL, no
//! answer that differs between a MAC that somebody has and one that nobody has; and the decoys
//! among them must raise their alarm.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use dialtone_kit::http::{self, Response};
use dialtone_kit::workerd::{Options, Workerd};
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::soak::Dice;

/// How many MACs the stranger tries in a whole soak.
pub const MACS: usize = 100_000;
/// How many of them somebody has.
const REAL: usize = 50;
/// How many ask at the same time.
const AT_ONCE: usize = 8;
/// The form of every answer that a stranger may get: status, headers without the date, body.
type Form = (u16, Vec<(String, String)>, Vec<u8>);

/// What a device of the scanned range is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lot {
    /// It can prove itself by its serial.
    Serial,
    /// It is armed, and its phone has not come yet.
    Armed,
    /// It was armed, and its phone came.
    Claimed,
    /// No phone has its MAC.
    Decoy,
    /// It is switched off.
    Disabled,
}

const LOTS: [Lot; 5] = [
    Lot::Serial,
    Lot::Armed,
    Lot::Claimed,
    Lot::Decoy,
    Lot::Disabled,
];

fn mac(n: usize) -> String {
    format!("805ec0{n:06x}")
}

/// Counts through so many MACs.
pub fn run(macs: usize, seed: u64) -> Result<()> {
    println!("scan: {macs} MACs with --seed {seed}");
    let workerd = Workerd::start(&Options::new())?;
    let admin = Admin::new(&workerd.url(), workerd.admin_token());
    let mut dice = Dice::new(seed);
    // Behind the first hundred: whoever guesses right at once is the phone, as far as anybody knows.
    let mut lots: BTreeMap<usize, Lot> = BTreeMap::new();
    while lots.len() < REAL {
        let lot = LOTS.into_iter().nth(lots.len() % LOTS.len());
        lots.insert(100 + dice.roll(macs - 100), lot.context("a lot")?);
    }
    let urls = set_up(&admin, &workerd, &lots)?;

    let answers: Mutex<BTreeMap<Form, BTreeSet<usize>>> = Mutex::default();
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<anyhow::Error>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= macs || failed.lock().is_ok_and(|failed| failed.is_some()) {
                        return;
                    }
                    match ask(&workerd, n).map(form) {
                        Ok(form) => {
                            if let Ok(mut answers) = answers.lock() {
                                answers.entry(form).or_default().insert(n);
                            }
                        }
                        Err(error) => {
                            if let Ok(mut failed) = failed.lock() {
                                failed.get_or_insert(error);
                            }
                        }
                    }
                }
            });
        }
    });
    if let Some(error) = failed.into_inner().ok().flatten() {
        return Err(error);
    }
    let answers = answers
        .into_inner()
        .map_err(|_| anyhow::anyhow!("a thread died"))?;
    let counts = judge(&answers, &lots)?;
    told_apart(&workerd, &lots)?;
    untouched(&admin, &lots)?;
    for url in urls {
        let answer = http::get(&format!("{url}ACC.cfg")).send()?;
        ensure!(
            answer.status == 200,
            "a phone lost its files: {}",
            answer.status
        );
    }
    alarms(&admin, &workerd, &lots)?;
    println!("scan: {counts}; no URL, nothing told apart, and every decoy was heard");
    Ok(())
}

/// Makes the devices; the URLs of those whose phone came.
fn set_up(admin: &Admin, workerd: &Workerd, lots: &BTreeMap<usize, Lot>) -> Result<Vec<String>> {
    admin.create("tenants/scan", &json!({}))?;
    let mut urls = Vec::new();
    for (n, lot) in lots {
        let mut device = json!({ "tenant": "scan", "vendor": "yealink", "model": "T46U" });
        match lot {
            Lot::Serial => device["serial"] = json!(format!("SERIAL{n}")),
            Lot::Armed | Lot::Claimed => device["arm"] = json!("24h"),
            Lot::Decoy => device["decoy"] = json!(true),
            Lot::Disabled => device["enabled"] = json!(false),
        }
        admin.create(&format!("devices/{}", mac(*n)), &device)?;
        if *lot == Lot::Claimed {
            let url = format!("{}/rps?mac={}", workerd.url(), mac(*n));
            let answer = http::get(&url)
                .source(IpAddr::from([198, 51, 100, 7]))
                .send()?;
            let found: Value = serde_json::from_slice(&answer.body)?;
            let url = found["url"].as_str().context("the phone got no URL")?;
            urls.push(url.to_owned());
        }
    }
    Ok(urls)
}

/// One try: in turns by each way to ask, by a host that keeps its address and by ones that do not.
fn ask(workerd: &Workerd, n: usize) -> Result<Response> {
    let (url, mac) = (workerd.url(), mac(n));
    let request = match n % 5 {
        0 => http::get(&format!("{url}/rps?mac={mac}")),
        1 => http::get(&format!("{url}/rps/{mac}.boot")),
        2 => http::get(&format!("{url}/rps/{mac}.cfg")),
        3 => http::get(&format!("{url}/rps?mac={mac}&serial=1&redirect=302")),
        _ => http::get(&format!("{url}/rps/sn/1/{mac}.boot")),
    };
    let source = if n.is_multiple_of(2) {
        IpAddr::from([203, 0, 113, 9])
    } else {
        let low = u16::try_from(n % 65_536)?;
        let high = u16::try_from(n / 65_536)?;
        IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, high, low, 0, 0, 0, 1))
    };
    let agent = format!("Yealink SIP-T46U 108.86.0.20 {mac}");
    request.source(source).user_agent(&agent).send()
}

fn form(answer: Response) -> Form {
    let headers = answer.headers.iter().filter(|(name, _)| *name != "date");
    let mut headers: Vec<(String, String)> = headers
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.to_string(), value.into_owned())
        })
        .collect();
    headers.sort();
    (answer.status, headers, answer.body)
}

/// There may be two forms of answers: the refusal, and that one has to wait.
fn judge(answers: &BTreeMap<Form, BTreeSet<usize>>, lots: &BTreeMap<usize, Lot>) -> Result<String> {
    let mut counts = Vec::new();
    for ((status, headers, body), macs) in answers {
        let real: Vec<_> = lots.iter().filter(|(n, _)| macs.contains(n)).collect();
        let shown = String::from_utf8_lossy(body);
        ensure!(
            matches!(status, 404 | 429),
            "{} were answered with {status} {headers:?} {shown}, among them {real:?}",
            macs.len()
        );
        counts.push(format!("{} times {status}", macs.len()));
    }
    ensure!(
        answers.len() <= 2,
        "there are {} forms of answers: {:?}",
        answers.len(),
        answers.keys()
    );
    Ok(counts.join(", "))
}

/// Asks for each real MAC and for one that nobody has, one after the other, as somebody who came for
/// the first time: the answers are the same unless a minute's limit ended in between.
fn told_apart(workerd: &Workerd, lots: &BTreeMap<usize, Lot>) -> Result<()> {
    for (n, lot) in lots {
        let ask = |mac: &str| -> Result<Form> {
            let url = format!("{}/rps?mac={mac}", workerd.url());
            let request = http::get(&url).source(IpAddr::from([203, 0, 113, 77]));
            Ok(form(request.send()?))
        };
        let mut same = false;
        for _ in 0..3 {
            same |= ask(&mac(*n))? == ask("805ec0fffffe")?;
        }
        ensure!(
            same,
            "{} ({lot:?}) can be told from a MAC that nobody has",
            mac(*n)
        );
    }
    Ok(())
}

/// The windows are as open as they were.
fn untouched(admin: &Admin, lots: &BTreeMap<usize, Lot>) -> Result<()> {
    for (n, lot) in lots {
        let status = admin.done("GET", &format!("devices/{}/status", mac(*n)), None)?;
        let claim = &status["window"]["claim"];
        match lot {
            Lot::Armed if !claim.is_null() => bail!("the stranger claimed {}: {claim}", mac(*n)),
            Lot::Claimed if claim["source"] != "198.51.100.7" => {
                bail!("the phone {} lost its claim: {claim}", mac(*n))
            }
            _ => {}
        }
    }
    Ok(())
}

/// Every decoy that was asked for is in the audit, before and after its events are chained.
fn alarms(admin: &Admin, workerd: &Workerd, lots: &BTreeMap<usize, Lot>) -> Result<()> {
    for chained in [false, true] {
        if chained {
            workerd.trigger_cron()?;
        }
        let query = "audit?tenant=scan&action=decoy.asked&limit=200";
        let audit = admin.done("GET", query, None)?.to_string();
        for (n, _) in lots.iter().filter(|(_, lot)| **lot == Lot::Decoy) {
            ensure!(
                audit.contains(&mac(*n)),
                "nobody heard that {} was asked for",
                mac(*n)
            );
        }
    }
    Ok(())
}
