//! An Asterisk 22 in memory, as far as its ARI goes: the endpoints, the dynamic PJSIP objects, and
//! what callers see while it boots, stops, hangs or is not let in. All of it as a real one was seen to do.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use dialtone::ports::NoAnswer;
use http::{Method, Request, Response};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

/// How an Asterisk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Up,
    /// Refuses the connection.
    Down,
    /// Takes the connection and never answers.
    Frozen,
    /// HTTP is there and ARI is not.
    Booting,
    /// ARI is there and the endpoints are not.
    NotBooted,
    /// On its way down.
    Stopping,
    /// The ARI module is not loaded.
    WithoutAri,
    /// The user may only read.
    ReadOnly,
    /// Answers with something of a proxy's.
    Garbled,
}

impl Mood {
    /// Every mood in which nothing works.
    pub const BAD: [Self; 7] = [
        Self::Down,
        Self::Frozen,
        Self::Booting,
        Self::NotBooted,
        Self::Stopping,
        Self::WithoutAri,
        Self::Garbled,
    ];
}

pub type Fields = BTreeMap<String, String>;

/// The Asterisk.
pub struct Asterisk {
    user: String,
    password: String,
    inside: RefCell<Inside>,
}

/// All objects at one moment.
pub struct Kept(BTreeMap<(String, String), Fields>);

#[derive(Clone)]
struct Inside {
    /// When the process started.
    started: String,
    mood: Mood,
    /// After so many more calls, another mood.
    turn: Option<(usize, Mood)>,
    /// By class and name.
    objects: BTreeMap<(String, String), Fields>,
    /// Those of `pjsip.conf`.
    fixed: BTreeSet<(String, String)>,
    online: BTreeSet<String>,
    /// An auth's fields that begin with `@` are kept.
    keeps_marks: bool,
    /// Names whose values are refused.
    refused: BTreeSet<String>,
    calls: Vec<String>,
    crashed: bool,
    /// Name, user and hash that must always be let in.
    always: Option<[String; 3]>,
    ami: Ami,
}

/// How the AMI over HTTP answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AmiMood {
    Up,
    /// The user's `write` lacks `system`.
    Denied,
    /// Lists break off.
    Half,
    /// A proxy's page.
    Page,
    /// Takes the connection and never answers.
    Frozen,
}

/// The manager's side: `(endpoint, URI, User-Agent)` of each contact, and what was sent.
#[derive(Clone)]
struct Ami {
    mood: AmiMood,
    contacts: Vec<[String; 3]>,
    channels: BTreeSet<String>,
    sessions: usize,
    /// Each as `endpoint or URI: event`.
    notified: Vec<String>,
}

/// The manager's user and password of every fake.
pub const AMI_USER: &str = "dialtone-ami";
pub const AMI_PASSWORD: &str = "ami&secret=+0123456789";

/// The classes of objects, in the order in which they are created.
pub const CLASSES: [&str; 3] = ["auth", "aor", "endpoint"];

/// The options that the fake knows; any other is refused as Asterisk does.
const OPTIONS: [&str; 26] = [
    "auth_type",
    "username",
    "realm",
    "md5_cred",
    "password",
    "max_contacts",
    "remove_existing",
    "remove_unavailable",
    "maximum_expiration",
    "qualify_frequency",
    "context",
    "disallow",
    "allow",
    "auth",
    "aors",
    "callerid",
    "media_encryption",
    "media_encryption_optimistic",
    "direct_media",
    "rtp_symmetric",
    "force_rport",
    "rewrite_contact",
    "dtmf_mode",
    "mailboxes",
    "mwi_subscribe_replaces_unsolicited",
    "aggregate_mwi",
];

fn json(status: u16, body: &Value) -> Response<Vec<u8>> {
    answer(status, "application/json", body.to_string())
}

fn message(status: u16, message: &str) -> Response<Vec<u8>> {
    json(status, &json!({ "message": message }))
}

fn answer(status: u16, content_type: &str, body: String) -> Response<Vec<u8>> {
    Response::builder()
        .status(status)
        .header("content-type", content_type)
        .body(body.into_bytes())
        .unwrap()
}

impl Asterisk {
    pub fn new(user: &str, password: &str) -> Rc<Self> {
        let inside = Inside {
            started: "first".to_owned(),
            mood: Mood::Up,
            turn: None,
            objects: BTreeMap::new(),
            fixed: BTreeSet::new(),
            online: BTreeSet::new(),
            keeps_marks: true,
            refused: BTreeSet::new(),
            calls: Vec::new(),
            crashed: false,
            always: None,
            ami: Ami {
                mood: AmiMood::Up,
                contacts: Vec::new(),
                channels: BTreeSet::new(),
                sessions: 0,
                notified: Vec::new(),
            },
        };
        Rc::new(Self {
            user: user.to_owned(),
            password: password.to_owned(),
            inside: RefCell::new(inside),
        })
    }

    pub fn is(&self, mood: Mood) {
        let mut inside = self.inside.borrow_mut();
        inside.mood = mood;
        inside.turn = None;
    }

    /// Becomes so after `calls` more calls.
    pub fn will_be(&self, mood: Mood, calls: usize) {
        self.inside.borrow_mut().turn = Some((calls, mood));
    }

    /// An older one, that keeps no `@` field of an auth.
    pub fn forgets_marks_of_auths(&self) {
        self.inside.borrow_mut().keeps_marks = false;
    }

    /// Refuses every value of objects of that name.
    pub fn refuses(&self, name: &str) {
        self.inside.borrow_mut().refused.insert(name.to_owned());
    }

    /// Somebody else's objects, from `pjsip.conf` or by ARI.
    pub fn has_foreign(&self, name: &str, fixed: bool) {
        let mut inside = self.inside.borrow_mut();
        for class in CLASSES {
            let place = (class.to_owned(), name.to_owned());
            let fields = [
                ("username", name),
                ("realm", ""),
                ("md5_cred", ""),
                ("allow", "ulaw"),
            ];
            let fields = fields.map(|(attribute, value)| (attribute.to_owned(), value.to_owned()));
            inside.objects.insert(place.clone(), fields.into());
            if fixed {
                inside.fixed.insert(place);
            }
        }
    }

    pub fn registers(&self, name: &str) {
        self.inside.borrow_mut().online.insert(name.to_owned());
    }

    pub fn unregisters(&self, name: &str) {
        self.inside.borrow_mut().online.remove(name);
    }

    pub fn ami_is(&self, mood: AmiMood) {
        self.inside.borrow_mut().ami.mood = mood;
    }

    /// A phone registers, and is seen by the AMI too.
    pub fn registers_from(&self, name: &str, uri: &str, user_agent: &str) {
        self.registers(name);
        let contact = [name, uri, user_agent].map(ToOwned::to_owned);
        self.inside.borrow_mut().ami.contacts.push(contact);
    }

    /// Its contact is gone.
    pub fn forgets(&self, uri: &str) {
        let ami = &mut self.inside.borrow_mut().ami;
        ami.contacts.retain(|[_, kept, _]| kept != uri);
    }

    /// Somebody speaks, or nobody any more.
    pub fn speaks(&self, name: &str, speaks: bool) {
        let channels = &mut self.inside.borrow_mut().ami.channels;
        if speaks {
            channels.insert(name.to_owned());
        } else {
            channels.remove(name);
        }
    }

    /// What phones were told since this was last asked, each as `endpoint or URI: event`.
    pub fn take_notified(&self) -> Vec<String> {
        std::mem::take(&mut self.inside.borrow_mut().ami.notified)
    }

    /// Loses every object that is not in `pjsip.conf`.
    pub fn loses_all(&self) {
        let inside = &mut *self.inside.borrow_mut();
        inside
            .objects
            .retain(|place, _| inside.fixed.contains(place));
    }

    /// Dies, loses what was written since these objects were kept, and is there again.
    pub fn crashes_to(&self, objects: &Kept) {
        let inside = &mut *self.inside.borrow_mut();
        inside.objects.clone_from(&objects.0);
        inside.started.push('!');
    }

    /// Has these objects again, as if nothing had happened since.
    pub fn put_back(&self, objects: &Kept) {
        self.inside.borrow_mut().objects.clone_from(&objects.0);
    }

    /// What is on its disk now.
    pub fn keep(&self) -> Kept {
        Kept(self.inside.borrow().objects.clone())
    }

    pub fn loses(&self, class: &str, name: &str) {
        self.inside
            .borrow_mut()
            .objects
            .remove(&(class.to_owned(), name.to_owned()));
    }

    /// An object with these fields, however it came there.
    pub fn has(&self, class: &str, name: &str, fields: Fields) {
        let place = (class.to_owned(), name.to_owned());
        self.inside.borrow_mut().objects.insert(place, fields);
    }

    /// A field is changed by hand.
    pub fn set(&self, class: &str, name: &str, attribute: &str, value: &str) {
        let mut inside = self.inside.borrow_mut();
        let fields = inside
            .objects
            .get_mut(&(class.to_owned(), name.to_owned()))
            .unwrap();
        fields.insert(attribute.to_owned(), value.to_owned());
    }

    /// The fields of an object, if it is there.
    pub fn object(&self, class: &str, name: &str) -> Option<Fields> {
        self.inside
            .borrow()
            .objects
            .get(&(class.to_owned(), name.to_owned()))
            .cloned()
    }

    /// A field of an object.
    pub fn field(&self, class: &str, name: &str, attribute: &str) -> Option<String> {
        self.object(class, name)?.remove(attribute)
    }

    /// The names of which all three objects are there; no name may have only some of them. Auths of
    /// former passwords have names of their own kind.
    pub fn names(&self) -> Vec<String> {
        let inside = self.inside.borrow();
        let of = |class: &str| -> Vec<String> {
            inside
                .objects
                .keys()
                .filter(|(kind, name)| kind == class && !name.contains('@'))
                .map(|(_, name)| name.clone())
                .collect()
        };
        assert!(
            of("auth") == of("aor") && of("aor") == of("endpoint"),
            "{:?}",
            inside.objects.keys()
        );
        of("auth")
    }

    /// The auths of former passwords of a name, and the digest's hash in each.
    pub fn former(&self, name: &str) -> Vec<(String, String)> {
        let inside = self.inside.borrow();
        let start = format!("{name}@");
        let auths = inside.objects.iter();
        auths
            .filter(|((class, auth), _)| class == "auth" && auth.starts_with(&start))
            .map(|((_, auth), fields)| (auth.clone(), fields["md5_cred"].clone()))
            .collect()
    }

    /// Whether a phone may register with a name by this digest's user and hash. One auth that is
    /// listed and not there locks out everybody.
    pub fn lets_in(&self, name: &str, user: &str, cred: &str) -> bool {
        self.inside.borrow().lets_in(name, user, cred)
    }

    /// After every call from now on this hash must let that user in at a name.
    pub fn always_lets_in(&self, name: &str, user: &str, cred: &str) {
        self.inside.borrow_mut().always = Some([name, user, cred].map(ToOwned::to_owned));
    }

    /// How many objects of a name are there.
    pub fn count(&self, name: &str) -> usize {
        self.inside
            .borrow()
            .objects
            .keys()
            .filter(|(_, kept)| kept == name)
            .count()
    }

    /// The calls since this was last asked, each as method and path below `/ari`.
    pub fn take_calls(&self) -> Vec<String> {
        let mut inside = self.inside.borrow_mut();
        assert!(
            !inside.crashed,
            "a value that was no string: Asterisk is dead"
        );
        std::mem::take(&mut inside.calls)
    }

    /// Those of them that change something.
    pub fn take_changes(&self) -> Vec<String> {
        self.take_calls()
            .into_iter()
            .filter(|call| !call.starts_with("GET "))
            .collect()
    }

    /// One call.
    pub fn answer(&self, request: &Request<Vec<u8>>) -> Result<Response<Vec<u8>>, NoAnswer> {
        let inside = &mut *self.inside.borrow_mut();
        let path = request
            .uri()
            .path()
            .strip_prefix("/ari")
            .unwrap_or_default()
            .to_owned();
        if path == "/asterisk/info" {
            // About no object and not counted: it is a failure without consequences.
            return match inside.mood {
                Mood::Up | Mood::ReadOnly => {
                    let status = json!({ "startup_time": inside.started });
                    Ok(json(200, &json!({ "status": status })))
                }
                _ => Err(NoAnswer::Unreachable),
            };
        }
        inside.calls.push(format!("{} {path}", request.method()));
        if let Some((left, mood)) = &mut inside.turn {
            if *left == 0 {
                inside.mood = *mood;
                inside.turn = None;
            } else {
                *left -= 1;
            }
        }
        match inside.mood {
            Mood::Up | Mood::ReadOnly => {}
            Mood::Down => return Err(NoAnswer::Unreachable),
            Mood::Frozen => return Err(NoAnswer::TimedOut),
            Mood::Booting => {
                return Ok(answer(
                    404,
                    "text/html",
                    "<html>404 Not Found</html>".to_owned(),
                ));
            }
            Mood::NotBooted => return Ok(message(503, "Asterisk not booted")),
            Mood::Stopping => return Ok(answer(503, "text/html", "<html>503</html>".to_owned())),
            Mood::WithoutAri => return Ok(message(404, "Resource not found")),
            Mood::Garbled => {
                return Ok(answer(200, "text/html", "<html>Sign in</html>".to_owned()));
            }
        }
        if request.uri().path() == "/rawman" {
            return inside.rawman(request);
        }
        let login = request
            .headers()
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        let expected = basic(&self.user, &self.password);
        if login != Some(&expected) {
            return Ok(message(401, "Authentication required"));
        }
        if inside.mood == Mood::ReadOnly && request.method() != Method::GET {
            return Ok(message(403, "Write access denied"));
        }
        if path == "/endpoints" {
            return Ok(json(200, &inside.endpoints()));
        }
        if let Some(name) = path.strip_prefix("/endpoints/PJSIP/") {
            let name = percent_decode_str(name).decode_utf8_lossy();
            let Value::Array(all) = inside.endpoints() else {
                unreachable!("a list")
            };
            let one = all.into_iter().find(|one| one["resource"] == *name);
            return Ok(
                one.map_or_else(|| message(404, "Endpoint not found"), |one| json(200, &one))
            );
        }
        let Some((class, name)) = path
            .strip_prefix("/asterisk/config/dynamic/res_pjsip/")
            .and_then(|rest| rest.split_once('/'))
        else {
            return Ok(message(404, "Resource not found"));
        };
        // As a form's: `+` is a space.
        let name = percent_decode_str(&name.replace('+', " "))
            .decode_utf8_lossy()
            .into_owned();
        if !CLASSES.contains(&class) {
            return Ok(message(404, &format!("objectType '{class}' not found")));
        }
        let answer = match request.method().as_str() {
            "GET" => inside.get(class, &name),
            "PUT" => match inside.put(class, &name, request) {
                Some(answer) => answer,
                None => return Err(NoAnswer::Unreachable),
            },
            "DELETE" => inside.delete(class, &name),
            _ => message(405, "Invalid method"),
        };
        if let Some([name, user, cred]) = &inside.always {
            let calls = &inside.calls;
            assert!(inside.lets_in(name, user, cred), "{user} after {calls:?}");
        }
        Ok(answer)
    }
}

/// The header of HTTP's own login.
fn basic(user: &str, password: &str) -> String {
    use base64::Engine;
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))
    )
}

impl Ami {
    /// The contacts as an answer, its lines ended by LF.
    fn list(&self) -> String {
        let head = "Response: Success\nEventList: start\nMessage: A listing\n\n".to_owned();
        let event = |[name, uri, agent]: &[String; 3]| {
            format!(
                "Event: ContactList\nObjectType: contact\nObjectName: {name};@ab\nEndpoint: {name}\n\
                 Uri: {uri}\nUserAgent: {agent}\n\n"
            )
        };
        let count = self.contacts.len();
        let end =
            format!("Event: ContactListComplete\nEventList: Complete\nListItems: {count}\n\n");
        let contacts: Vec<String> = self.contacts.iter().map(event).collect();
        let mut list = head + &contacts.concat() + &end;
        if self.mood == AmiMood::Half {
            list.truncate(list.len() - 30);
        }
        list
    }
}

impl Inside {
    /// As a real one was seen to answer: every failure is HTTP 200, and nobody registered is one.
    fn rawman(&mut self, request: &Request<Vec<u8>>) -> Result<Response<Vec<u8>>, NoAnswer> {
        let text = |text: &str| answer(200, "text/plain", text.replace('\n', "\r\n"));
        let says = |kind: &str, said: &str| text(&format!("Response: {kind}\nMessage: {said}\n\n"));
        assert_eq!(
            (request.method(), request.uri().query()),
            (&Method::POST, None)
        );
        assert_eq!(
            request.headers()["content-type"],
            "application/x-www-form-urlencoded"
        );
        assert!(
            !request.headers().contains_key("authorization"),
            "ARI's password"
        );
        let form: Vec<(String, String)> = form_urlencoded::parse(request.body())
            .into_owned()
            .collect();
        let field = |name: &str| {
            let mut of_name = form.iter().filter(|(field, _)| field == name);
            let value = of_name
                .next()
                .map(|(_, value)| value.clone())
                .unwrap_or_default();
            assert!(of_name.next().is_none(), "{name} twice");
            value
        };
        let action = field("action");
        if let Some(call) = self.calls.last_mut() {
            *call = format!("AMI {action}");
        }
        match self.ami.mood {
            AmiMood::Frozen => return Err(NoAnswer::TimedOut),
            AmiMood::Page => {
                let page = "<html>Sign in: here</html>\n".to_owned();
                return Ok(answer(200, "text/html", page));
            }
            _ => {}
        }
        if action == "login" {
            if (field("username"), field("secret"))
                != (AMI_USER.to_owned(), AMI_PASSWORD.to_owned())
            {
                return Ok(says("Error", "Authentication failed"));
            }
            self.ami.sessions += 1;
            let mut answer = says("Success", "Authentication accepted");
            let cookie = format!(
                "mansession_id=\"{:08x}\"; Version=1; Max-Age=60",
                self.ami.sessions
            );
            answer
                .headers_mut()
                .append("set-cookie", "CF_Authorization=x; Path=/".parse().unwrap());
            answer
                .headers_mut()
                .append("set-cookie", cookie.parse().unwrap());
            return Ok(answer);
        }
        let cookie = request
            .headers()
            .get("cookie")
            .and_then(|value| value.to_str().ok());
        let known = cookie.is_some_and(|cookie| {
            (1..=self.ami.sessions).any(|n| cookie == format!("mansession_id=\"{n:08x}\""))
        });
        if !known || self.ami.mood == AmiMood::Denied {
            return Ok(says("Error", "Permission denied"));
        }
        Ok(match action.as_str() {
            "PJSIPShowContacts" if self.ami.contacts.is_empty() => {
                says("Error", "No Contacts found")
            }
            "PJSIPShowContacts" => text(&self.ami.list()),
            "PJSIPNotify" => {
                let event = field("Variable");
                let event = event.strip_prefix("Event=").unwrap();
                let (endpoint, uri) = (field("Endpoint"), field("URI"));
                assert!(endpoint.is_empty() != uri.is_empty(), "one of both");
                let there = self
                    .objects
                    .contains_key(&("endpoint".to_owned(), endpoint.clone()));
                if uri.is_empty() && !there {
                    return Ok(says(
                        "Error",
                        &format!("Unable to retrieve endpoint {endpoint}"),
                    ));
                }
                self.ami.notified.push(format!("{endpoint}{uri}: {event}"));
                says("Success", "NOTIFY sent")
            }
            other => says("Error", &format!("Invalid/unknown command: {other}.")),
        })
    }

    fn lets_in(&self, name: &str, user: &str, cred: &str) -> bool {
        let of = |class: &str, name: &str| self.objects.get(&(class.to_owned(), name.to_owned()));
        let Some(listed) = of("endpoint", name).and_then(|fields| fields.get("auth")) else {
            return false;
        };
        let auths: Option<Vec<&Fields>> = listed.split(',').map(|auth| of("auth", auth)).collect();
        auths.is_some_and(|auths| {
            auths
                .iter()
                .any(|auth| auth["username"] == user && auth["md5_cred"] == cred)
        })
    }

    fn endpoints(&self) -> Value {
        let names = self.objects.keys().filter(|(class, _)| class == "endpoint");
        names
            .map(|(_, name)| {
                let state = if self.online.contains(name) { "online" } else { "offline" };
                let speaks = self.ami.channels.contains(name);
                let channels = if speaks { json!(["1795.1"]) } else { json!([]) };
                json!({ "technology": "PJSIP", "resource": name, "state": state, "channel_ids": channels })
            })
            .collect()
    }

    fn get(&self, class: &str, name: &str) -> Response<Vec<u8>> {
        match self.objects.get(&(class.to_owned(), name.to_owned())) {
            // Kept, listed, and nobody can read it any more.
            Some(fields) if class == "endpoint" && !fields.contains_key("allow") => missing(name),
            Some(fields) => json(200, &listed(fields)),
            None => missing(name),
        }
    }

    fn put(
        &mut self,
        class: &str,
        name: &str,
        request: &Request<Vec<u8>>,
    ) -> Option<Response<Vec<u8>>> {
        let place = (class.to_owned(), name.to_owned());
        if self.fixed.contains(&place) {
            return Some(message(
                403,
                &format!("Cannot update sorcery objects of type '{class}'"),
            ));
        }
        if request
            .headers()
            .get("content-type")
            .is_none_or(|kind| kind != "application/json")
        {
            return Some(message(
                400,
                &format!("Fields must be provided to update object '{name}'"),
            ));
        }
        let Ok(body) = serde_json::from_slice::<Value>(request.body()) else {
            return Some(message(400, "Error parsing request body"));
        };
        let mut fields = self.objects.get(&place).cloned().unwrap_or_default();
        for field in body["fields"].as_array().into_iter().flatten() {
            let (Some(attribute), Some(value)) =
                (field["attribute"].as_str(), field["value"].as_str())
            else {
                self.crashed = true;
                self.mood = Mood::Down;
                return None;
            };
            let unknown = !attribute.starts_with('@') && !OPTIONS.contains(&attribute);
            if unknown || self.refused.contains(name) {
                let verb = if self.objects.contains_key(&place) {
                    "Update"
                } else {
                    "Creation"
                };
                return Some(message(
                    400,
                    &format!("{verb} of object '{name}' failed field value validation"),
                ));
            }
            let kept = match (attribute, value) {
                ("disallow", _) => continue,
                ("allow", codecs) => format!("({})", codecs.replace(',', "|")),
                (_, "yes") => "true".to_owned(),
                (_, "no") => "false".to_owned(),
                _ => value.to_owned(),
            };
            if !attribute.starts_with('@') || class != "auth" || self.keeps_marks {
                fields.insert(attribute.to_owned(), kept);
            }
        }
        let answer = json(200, &listed(&fields));
        self.objects.insert(place, fields);
        Some(answer)
    }

    fn delete(&mut self, class: &str, name: &str) -> Response<Vec<u8>> {
        let place = (class.to_owned(), name.to_owned());
        if self.fixed.contains(&place) {
            return message(403, &format!("Could not delete object with id '{name}'"));
        }
        match self.objects.remove(&place) {
            Some(_) => Response::builder().status(204).body(Vec::new()).unwrap(),
            None => missing(name),
        }
    }
}

fn missing(name: &str) -> Response<Vec<u8>> {
    message(404, &format!("Object with id '{name}' not found"))
}

fn listed(fields: &Fields) -> Value {
    let fields = fields
        .iter()
        .map(|(attribute, value)| json!({ "attribute": attribute, "value": value }));
    // A real one lists every option that it knows.
    fields
        .chain([json!({ "attribute": "support_path", "value": "false" })])
        .collect()
}
