//! Readers of the vendors' files that share nothing with the code that writes them, and that are
//! stricter than any phone: what they do not know is an error.

use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// A Yealink boot or cfg file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Yealink {
    /// The URLs of a boot file, in order.
    pub includes: Vec<String>,
    /// `overwrite_mode` of a boot file.
    pub overwrite: Option<String>,
    /// The comments, without the `#`.
    pub comments: Vec<String>,
    /// The parameters of a cfg file.
    pub settings: BTreeMap<String, String>,
}

/// Reads a Yealink file: the version, then comments and either the lines of a boot file or
/// `key = value`, each key once.
pub fn yealink(text: &str) -> Result<Yealink, String> {
    let lines = text.strip_suffix('\n').ok_or("the last line has no end")?;
    let mut lines = lines.split('\n');
    if lines.next() != Some("#!version:1.0.0.1") {
        return Err("the first line is not the version".to_owned());
    }
    let mut file = Yealink::default();
    for line in lines {
        if line.contains(char::is_control) {
            return Err(format!("{line:?} holds a control character"));
        }
        if line.trim_end() != line {
            return Err(format!("{line:?} ends in white space"));
        }
        if let Some(comment) = line.strip_prefix('#') {
            if comment.starts_with('!') {
                return Err("a second version".to_owned());
            }
            file.comments.push(comment.trim_start().to_owned());
        } else if let Some(include) = line.strip_prefix("include:config ") {
            let url = include
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'));
            let url = url.ok_or_else(|| format!("{line:?} has no quotes"))?;
            // "The file to be included must be a .cfg file" (Auto Provisioning Guide).
            if url.contains('"') || url.strip_suffix(".cfg").is_none() {
                return Err(format!("{url:?} cannot be included"));
            }
            file.includes.push(url.to_owned());
        } else {
            let (key, value) = match line.split_once(" = ") {
                Some(pair) => pair,
                None => (
                    line.strip_suffix(" =")
                        .ok_or_else(|| format!("{line:?} is no setting"))?,
                    "",
                ),
            };
            let allowed =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.".contains(c);
            if key.is_empty() || !key.chars().all(allowed) {
                return Err(format!("{key:?} is no key"));
            }
            if value.trim() != value {
                return Err(format!("{value:?} loses white space"));
            }
            let former = if key == "overwrite_mode" {
                file.overwrite.replace(value.to_owned())
            } else if key.ends_with("security.user_password") {
                // The one parameter that a file sets once for each user, as user:password.
                let (user, password) = value
                    .split_once(':')
                    .ok_or_else(|| format!("{value:?} names no user"))?;
                file.settings
                    .insert(format!("{key}:{user}"), password.to_owned())
            } else {
                file.settings.insert(key.to_owned(), value.to_owned())
            };
            if former.is_some() {
                return Err(format!("{key} is set twice"));
            }
        }
    }
    let boot = !file.includes.is_empty() || file.overwrite.is_some();
    if boot && !file.settings.is_empty() {
        return Err("a boot file may only include".to_owned());
    }
    Ok(file)
}

/// Reads a Linphone document: the values by `section/entry`, each section and entry once, each to
/// overwrite what the phone has.
pub fn linphone(text: &str) -> Result<BTreeMap<String, String>, String> {
    if !text.ends_with("</config>\n") {
        return Err("the document does not end in a whole line".to_owned());
    }
    if text
        .lines()
        .any(|line| line.trim_end() != line || line.is_empty())
    {
        return Err("a line is blank or ends in white space".to_owned());
    }
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_comments = true;
    let mut values = BTreeMap::new();
    // The names of the elements that are open, and those of the section and the entry.
    let mut open: Vec<String> = Vec::new();
    let mut place: (String, String) = Default::default();
    let mut declared = false;
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Eof => break,
            Event::Decl(_) if !declared => declared = true,
            Event::Comment(_) => {}
            Event::Start(start) => {
                let name = start.name().as_ref().to_owned();
                let mut attributes = attributes(&start)?;
                let mut take =
                    |name: &str| attributes.remove(name).ok_or_else(|| format!("no {name}"));
                match (open.len(), name.as_str()) {
                    (0, "config") => {
                        if take("xmlns")? != "http://www.linphone.org/xsds/lpconfig.xsd" {
                            return Err("another namespace".to_owned());
                        }
                    }
                    (1, "section") => {
                        // A section may come again, with other entries (lpconfig merges them).
                        place.0 = take("name")?;
                    }
                    (2, "entry") => {
                        place.1 = take("name")?;
                        if take("overwrite")? != "true" {
                            return Err(format!("{} would keep an old value", place.1));
                        }
                        let key = format!("{}/{}", place.0, place.1);
                        if values.insert(key.clone(), String::new()).is_some() {
                            return Err(format!("{key} is set twice"));
                        }
                    }
                    _ => return Err(format!("{name} in {open:?}")),
                }
                if let Some(more) = attributes.keys().next() {
                    return Err(format!("{name} has {more}"));
                }
                open.push(name);
            }
            Event::End(_) => {
                open.pop();
            }
            Event::Text(piece) => add(&mut values, &open, &place, &piece.xml10_content())?,
            Event::GeneralRef(reference) => {
                let piece = match reference
                    .resolve_char_ref()
                    .map_err(|error| error.to_string())?
                {
                    Some(c) => c.to_string(),
                    None => entity(&reference.xml10_content())?.to_owned(),
                };
                add(&mut values, &open, &place, &piece)?;
            }
            other => return Err(format!("{other:?}")),
        }
    }
    if declared && open.is_empty() {
        Ok(values)
    } else {
        Err("no whole document".to_owned())
    }
}

fn attributes(start: &BytesStart<'_>) -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        found.insert(
            attribute.key.as_ref().to_owned(),
            attribute.value.into_owned(),
        );
    }
    Ok(found)
}

/// The five entities that XML knows without a DTD (XML 1.0, 4.6).
pub fn entity(name: &str) -> Result<&'static str, String> {
    Ok(match name {
        "amp" => "&",
        "lt" => "<",
        "gt" => ">",
        "apos" => "'",
        "quot" => "\"",
        _ => return Err(format!("&{name}; is not declared")),
    })
}

fn add(
    values: &mut BTreeMap<String, String>,
    open: &[String],
    (section, entry): &(String, String),
    piece: &str,
) -> Result<(), String> {
    if open.len() == 3 {
        values
            .entry(format!("{section}/{entry}"))
            .or_default()
            .push_str(piece);
    } else if !piece.trim().is_empty() {
        return Err(format!("{piece:?} stands outside of an entry"));
    }
    Ok(())
}

#[test]
fn the_yealink_reader_refuses_what_a_phone_could_misread() {
    let fine = "#!version:1.0.0.1\n# why\na.b = 1 = 2\nc =\n";
    let read = yealink(fine).unwrap();
    assert_eq!(read.settings["a.b"], "1 = 2");
    assert_eq!(read.settings["c"], "");
    for wrong in [
        "a = 1\n",
        "#!version:1.0.0.1\na = 1",
        "#!version:1.0.0.1\r\na = 1\r\n",
        "#!version:1.0.0.1\n\na = 1\n",
        "#!version:1.0.0.1\na = 1\na = 2\n",
        "#!version:1.0.0.1\na = 1 \n",
        "#!version:1.0.0.1\na=1\n",
        "#!version:1.0.0.1\n#!version:1.0.0.1\n",
        "#!version:1.0.0.1\ninclude:config x.cfg\n",
        "#!version:1.0.0.1\ninclude:config \"x.xml\"\n",
        "#!version:1.0.0.1\ninclude:config \"x.cfg\"\na = 1\n",
    ] {
        assert!(yealink(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn the_linphone_reader_refuses_what_a_phone_could_misread() {
    let document = |inner: &str| {
        let namespace = "http://www.linphone.org/xsds/lpconfig.xsd";
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<config xmlns=\"{namespace}\">\n{inner}\n</config>\n"
        )
    };
    let entry = "<entry name=\"a\" overwrite=\"true\">x &amp;&#38; y</entry>";
    let read = linphone(&document(&format!("<section name=\"s\">{entry}</section>"))).unwrap();
    assert_eq!(read["s/a"], "x && y");
    for wrong in [
        format!("<section name=\"s\">{entry}{entry}</section>"),
        format!("<section name=\"s\">{entry}</section><section name=\"s\">{entry}</section>"),
        "<section name=\"s\"><entry name=\"a\">x</entry></section>".to_owned(),
        "<section name=\"s\"><entry name=\"a\" overwrite=\"true\">&nbsp;</entry></section>"
            .to_owned(),
        "<section name=\"s\">x</section>".to_owned(),
        "<section name=\"s\">".to_owned(),
        entry.to_owned(),
        "x".to_owned(),
    ] {
        assert!(linphone(&document(&wrong)).is_err(), "{wrong}");
    }
}
