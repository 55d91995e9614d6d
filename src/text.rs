//! The texts that may stand in a record. Each type's constructor is the only check there is: what
//! holds one can be printed into any line or element that a phone reads without breaking out.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a character may not stand in any text of a record, or `None` if it may.
///
/// Line breaks and other controls would add lines to a phone's file; the Unicode line separators
/// do the same in some parsers; bidirectional controls make a preview show what is not there;
/// non-characters and lone surrogates are no XML (XML 1.0, section 2.2).
fn objection(c: char) -> Option<&'static str> {
    match c {
        '\n' | '\r' => Some("must not hold a line break"),
        '\u{2028}' | '\u{2029}' => Some("must not hold a line or paragraph separator"),
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' => {
            Some("must not hold a bidirectional control")
        }
        '\u{feff}' => Some("must not hold a byte order mark"),
        c if c.is_control() => Some("must not hold a control character"),
        c if (u32::from(c) & 0xfffe) == 0xfffe || ('\u{fdd0}'..='\u{fdef}').contains(&c) => {
            Some("must not hold a non-character")
        }
        _ => None,
    }
}

/// One line of text: 1 to `max` characters, none that could end the line, no white space around it.
fn one_line(text: &str, max: usize) -> Result<(), String> {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if text.chars().count() > max {
        return Err(format!("must have at most {max} characters"));
    }
    if let Some(why) = text.chars().find_map(objection) {
        return Err(why.to_owned());
    }
    if text.trim() != text {
        return Err("must not begin or end with white space".to_owned());
    }
    Ok(())
}

/// A text of `1..=max` characters that are all allowed by `allowed`.
fn only(text: &str, max: usize, allowed: fn(char) -> bool, says: &str) -> Result<(), String> {
    if text.is_empty() || text.chars().count() > max {
        return Err(format!("must have 1 to {max} characters"));
    }
    if text.chars().all(allowed) {
        Ok(())
    } else {
        Err(format!("may hold only {says}"))
    }
}

/// The characters that [`objection`] objects to, as they stand between the brackets of a pattern; but
/// for the non-characters beyond U+FFFF.
#[cfg(not(target_arch = "wasm32"))]
macro_rules! objections {
    () => {
        concat!(
            "\\u0000-\\u001f\\u007f-\\u009f\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069",
            "\\ufdd0-\\ufdef\\ufeff\\ufffe\\uffff"
        )
    };
}

/// What [`one_line`] takes.
#[cfg(not(target_arch = "wasm32"))]
macro_rules! one_line_pattern {
    ($begin:literal, $end:literal) => {
        concat!(
            $begin,
            "[^\\s",
            objections!(),
            "]",
            "([^",
            objections!(),
            "]*[^\\s",
            objections!(),
            "])?",
            $end
        )
    };
}

/// Makes a type of a text. `longest` is the most characters that it has, which its check is given too;
/// `pattern` is what the API's document says of it, in the words of ECMA-262: everything that the
/// check takes, and little more where it asks for what no pattern can say.
macro_rules! text_type {
    ($(#[doc = $doc:literal])* $name:ident($longest:literal, $pattern:expr), $check:expr) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The most characters that it has.
            pub const LONGEST: usize = $longest;

            /// What it looks like (ECMA-262), as far as a pattern can say it.
            #[cfg(not(target_arch = "wasm32"))]
            pub const PATTERN: &str = $pattern;

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                let check: fn(&str, usize) -> Result<(), String> = $check;
                check(&text, Self::LONGEST)?;
                Ok(Self(text))
            }
        }

        schema!($name, concat!($($doc, "\n"),*), {
            "type": "string",
            "pattern": $name::PATTERN,
            "maxLength": $name::LONGEST,
        });

        impl TryFrom<&str> for $name {
            type Error = String;

            fn try_from(text: &str) -> Result<Self, String> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_type! {
    /// The name of a tenant, profile, PBX, account or rule: lower-case letters, digits, `-`, `_`
    /// and `.`, at most 64, starting with a letter or digit.
    Id(64, "^[a-z0-9][a-z0-9_.-]*$"), |text, longest| {
        only(
            text,
            longest,
            |c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c),
            "lower-case letters, digits, '-', '_' and '.'",
        )?;
        if text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            Ok(())
        } else {
            Err("must start with a letter or digit".to_owned())
        }
    }
}

text_type! {
    /// The user part of a SIP address and the name of the PJSIP objects at the PBX.
    ///
    /// RFC 3261's `user` without escapes, less what a PJSIP list or a phone's file would split at
    /// (`,`, `;`, `&`, `=`, `$`, `?`, `/`).
    Username(64, "^[.]*[A-Za-z0-9_!~*'+-][A-Za-z0-9_.!~*'+-]*$"), |text, longest| {
        if text.bytes().all(|b| b == b'.') {
            // "." and ".." mean a place in a path, and ARI has names in paths.
            return Err("must not be only dots".to_owned());
        }
        only(
            text,
            longest,
            |c| c.is_ascii_alphanumeric() || "-_.!~*'+".contains(c),
            "ASCII letters, digits and -_.!~*'+",
        )
    }
}

text_type! {
    /// A name that people read on a display: any letter, at most 128 characters.
    DisplayName(128, one_line_pattern!("^", "$")), |text, longest| one_line(text, longest)
}

text_type! {
    /// An e-mail address, as Cloudflare Access has it: any letters but no white space, one `@` inside,
    /// at most 254 characters (RFC 5321, 4.5.3.1.3).
    Email(254, "^[^@\\s]+@[^@\\s]+$"), |text, longest| {
        one_line(text, longest)?;
        let whole = |(local, domain): (&str, &str)| {
            !local.is_empty() && !domain.is_empty() && !domain.contains('@')
        };
        if text.split_once('@').is_some_and(whole) && !text.contains(char::is_whitespace) {
            Ok(())
        } else {
            Err("is not an e-mail address".to_owned())
        }
    }
}

text_type! {
    /// The common name of something that is no person at Cloudflare Access: the client id of a service
    /// token, or the name in a client certificate; at most 128 characters.
    CommonName(128, one_line_pattern!("^", "$")), |text, longest| one_line(text, longest)
}

text_type! {
    /// The name of an HTTP header (RFC 9110, 5.1), at most 128 characters.
    HeaderName(128, "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"), |text, longest| only(
        text,
        longest,
        |c| c.is_ascii_alphanumeric() || "!#$%&'*+.^_`|~-".contains(c),
        "the characters of an HTTP header's name",
    )
}

text_type! {
    /// What a key of a phone says: any letter, at most 64 characters.
    Label(64, one_line_pattern!("^", "$")), |text, longest| one_line(text, longest)
}

text_type! {
    /// What a key dials or watches: a number, a star code, a SIP user or address.
    Dial(128, "^[A-Za-z0-9+*#_.!~'@:-]+$"), |text, longest| only(
        text,
        longest,
        |c| c.is_ascii_alphanumeric() || "+*#-_.!~'@:".contains(c),
        "ASCII letters, digits and +*#-_.!~'@:",
    )
}

text_type! {
    /// What a key is given: what it dials, watches or sends ([`Dial`]), or the URL that it calls up
    /// ([`WebUrl`]). Which of the two is up to what the key does.
    ButtonValue(512, "^([A-Za-z0-9+*#_.!~'@:-]{1,128}|[hH][tT][tT][pP][sS]?://[^\\s\"'#<>\\\\`{}@]+)$"), |text, _| match Dial::try_from(text) {
        Ok(_) => Ok(()),
        Err(wrong) => WebUrl::try_from(text).map(drop).map_err(|_| format!("{wrong}, or be a URL")),
    }
}

text_type! {
    /// A mailbox at the PBX with its context (`voicemail.conf`), such as `1001@default`: ASCII letters,
    /// digits, `-`, `_` and `.`, each part 1 to 79 of them, the most that Asterisk's voicemail keeps.
    ///
    /// Asterisk takes any text for the names of mailboxes and splits it at `,`; one without its context is
    /// nobody's, and its lamp never goes on.
    Mailbox(159, "^[A-Za-z0-9_.-]{1,79}@[A-Za-z0-9_.-]{1,79}$"), |text, _| {
        let Some((name, context)) = text.split_once('@') else {
            return Err("must have a context behind an @, such as 1001@default".to_owned());
        };
        for (part, what) in [(name, "the mailbox before the @"), (context, "the context behind the @")] {
            only(
                part,
                79,
                |c| c.is_ascii_alphanumeric() || "-_.".contains(c),
                "ASCII letters, digits, '-', '_' and '.'",
            )
            .map_err(|wrong| format!("{wrong}: {what}"))?;
        }
        Ok(())
    }
}

text_type! {
    /// Numbers that belong together: digits, `*`, `#`, `+`, `x` for any digit, sets such as `[2-9]`,
    /// and at the end `.` for any further digits (the common part of RFC 3435's digit maps and the
    /// vendors' own).
    DialPattern(64, "^([0-9*#+x]|\\[([0-9]+|[0-8]-[1-9])\\])+[.]?$"), |text, longest| {
        if text.is_empty() || text.len() > longest {
            return Err(format!("must have 1 to {longest} characters"));
        }
        let mut rest = text.strip_suffix('.').unwrap_or(text);
        if rest.is_empty() {
            return Err("must begin with a digit".to_owned());
        }
        while let Some(c) = rest.chars().next() {
            if c == '[' {
                let Some((set, after)) = rest.split_at(1).1.split_once(']') else {
                    return Err("has a [ without a ]".to_owned());
                };
                let bytes = set.as_bytes();
                let digits = set.bytes().all(|b| b.is_ascii_digit());
                let range = matches!(bytes, [from, b'-', to]
                    if from.is_ascii_digit() && to.is_ascii_digit() && from < to);
                if set.is_empty() || !(digits || range) {
                    return Err("may hold in [ ] only digits, or a range such as 2-9".to_owned());
                }
                rest = after;
            } else if c.is_ascii_digit() || "*#+x".contains(c) {
                rest = rest.split_at(1).1;
            } else {
                return Err("may hold only digits, * # + x, [ ] and a last .".to_owned());
            }
        }
        Ok(())
    }
}

text_type! {
    /// The name of a parameter in a vendor's own words. Each vendor has a grammar of its own on top.
    RawKey(128, "^[A-Za-z0-9_]([A-Za-z0-9_./\\[\\] -]*[A-Za-z0-9_./\\[\\]-])?$"), |text, longest| {
        only(
            text,
            longest,
            |c| c.is_ascii_alphanumeric() || "_.-/[] ".contains(c),
            "ASCII letters, digits, spaces and _.-/[]",
        )?;
        if text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') && !text.ends_with(' ') {
            Ok(())
        } else {
            Err("must start with a letter, digit or '_' and not end in a space".to_owned())
        }
    }
}

text_type! {
    /// The value of a parameter in a vendor's own words: one line of at most 512 characters, or
    /// nothing.
    RawValue(512, one_line_pattern!("^(", ")?$")), |text, longest| if text.is_empty() { Ok(()) } else { one_line(text, longest) }
}

text_type! {
    /// The number on the phone's box. Compared without regard to case.
    Serial(64, "^[A-Za-z0-9_-]+$"), |text, longest| only(
        text,
        longest,
        |c| c.is_ascii_alphanumeric() || "-_".contains(c),
        "ASCII letters, digits, '-' and '_'",
    )
}

text_type! {
    /// A site, region or country in a record or a rule: an [`Id`] in any case of letters.
    Place(64, "^[A-Za-z0-9_.-]+$"), |text, longest| only(
        text,
        longest,
        |c| c.is_ascii_alphanumeric() || "-_.".contains(c),
        "ASCII letters, digits, '-', '_' and '.'",
    )
}

text_type! {
    /// A country (ISO 3166-1, alpha-2): two capital letters.
    Country(2, "^[A-Z]{2}$"), |text, _| match text.as_bytes() {
        [a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Ok(()),
        _ => Err("must be two capital letters, such as DE".to_owned()),
    }
}

text_type! {
    /// A host name (RFC 1123, fully spelled in ASCII) or an IPv4 or IPv6 address.
    Host(253, "^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?([.][A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$"), |text, longest| {
        if text.parse::<std::net::IpAddr>().is_ok() {
            return Ok(());
        }
        only(text, longest, |c| c.is_ascii_alphanumeric() || "-.".contains(c), "a host name or an address")?;
        let label_ok = |l: &str| !l.is_empty() && l.len() <= 63 && !l.starts_with('-') && !l.ends_with('-');
        // A name whose last label is a number would be read as a bad IPv4 address.
        let numeric_end = text.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
        if text.split('.').all(label_ok) && !numeric_end {
            Ok(())
        } else {
            Err("is not a host name or an IP address".to_owned())
        }
    }
}

text_type! {
    /// A language tag of a phone's menus, such as `en`, `de` or `pt-BR` (BCP 47, the simple part).
    Language(11, "^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$"), |text, longest| {
        only(text, longest, |c| c.is_ascii_alphanumeric() || c == '-', "letters, digits and '-'")?;
        let mut parts = text.split('-');
        if parts.next().is_some_and(|l| (2..=3).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_lowercase()))
            && parts.all(|p| (2..=8).contains(&p.len()))
        {
            Ok(())
        } else {
            Err("must be a language tag, such as de or pt-BR".to_owned())
        }
    }
}

text_type! {
    /// A dialplan context or an authentication realm of the PBX.
    PbxWord(80, "^[A-Za-z0-9_.@:-]+$"), |text, longest| only(
        text,
        longest,
        |c| c.is_ascii_alphanumeric() || "-_.@:".contains(c),
        "ASCII letters, digits and -_.@:",
    )
}

text_type! {
    /// An `http:` or `https:` URL: a host, no user or password, no fragment, and only characters
    /// that end no line, quoted value or element in any vendor's file. What else a URL needs can be
    /// percent-encoded.
    WebUrl(512, "^[hH][tT][tT][pP][sS]?://[^\\s\"'#<>\\\\`{}@/?]+([/?][^\\s\"'#<>\\\\`{}]*)?$"), |text, longest| {
        if text.len() > longest {
            return Err(format!("must have at most {longest} characters"));
        }
        if !text.bytes().all(|b| b.is_ascii_graphic() && !b"\"'<>\\`{}".contains(&b)) {
            return Err("may hold only ASCII without spaces, quotes, braces, <, > and backslash".to_owned());
        }
        // http::Uri drops a fragment without a word.
        if text.contains('#') {
            return Err("must not have a fragment".to_owned());
        }
        let uri: http::Uri = text.parse().map_err(|error| format!("is not a URL: {error}"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err("must be an http or https URL".to_owned());
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err("must not hold a user or a password".to_owned());
        }
        let host = uri.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        Host::try_from(bare).map_err(|_| "has no valid host".to_owned())?;
        if authority.len() > host.len() && uri.port_u16().is_none_or(|port| port == 0) {
            return Err("has no valid port".to_owned());
        }
        Ok(())
    }
}

impl WebUrl {
    /// Whether it is an `https:` URL.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0
            .get(..6)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"))
    }

    /// The host's name, in lower case; `None` for an IP address.
    #[must_use]
    pub fn host_name(&self) -> Option<String> {
        let uri: http::Uri = self.0.parse().ok()?;
        let host = uri.host()?.trim_end_matches('.').to_ascii_lowercase();
        let address = host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok();
        (!address).then_some(host)
    }
}

impl ButtonValue {
    /// Whether it can be dialled, and so is no URL.
    #[must_use]
    pub fn is_dial(&self) -> bool {
        Dial::try_from(self.as_str()).is_ok()
    }
}

impl PbxWord {
    /// Asterisk's own realm for digest challenges (`pjsip.conf`, `default_realm`).
    #[must_use]
    pub fn asterisk() -> Self {
        Self("asterisk".to_owned())
    }

    /// The dialplan context that Asterisk gives an endpoint without one.
    #[must_use]
    pub fn default_context() -> Self {
        Self("default".to_owned())
    }
}

impl Host {
    /// The public pool of time servers.
    #[must_use]
    pub fn ntp_pool() -> Self {
        Self("pool.ntp.org".to_owned())
    }
}

impl ZoneName {
    /// Coordinated Universal Time.
    #[must_use]
    pub fn utc() -> Self {
        Self("UTC".to_owned())
    }
}

impl Language {
    /// English.
    #[must_use]
    pub fn english() -> Self {
        Self("en".to_owned())
    }
}

text_type! {
    /// A time zone of the IANA database, such as `Europe/Berlin`.
    ZoneName(64, "^[A-Za-z0-9+_/-]+$"), |text, longest| {
        only(text, longest, |c| c.is_ascii_alphanumeric() || "+-_/".contains(c), "the name of an IANA time zone")?;
        if crate::zone::known(text) {
            Ok(())
        } else {
            Err("is not a time zone of the IANA database".to_owned())
        }
    }
}

/// The escapes of XML in templates: the five named entities (XML 1.0, 4.6) and nothing else.
///
/// askama's own writes numbers such as `&#38;`, which is the same to an XML parser; phones have seen
/// the named ones from everybody for twenty years.
#[derive(Debug, Clone, Copy, Default)]
pub struct Xml;

impl askama::filters::Escaper for Xml {
    fn write_escaped_str<W: fmt::Write>(&self, mut out: W, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => out.write_str("&amp;")?,
                '<' => out.write_str("&lt;")?,
                '>' => out.write_str("&gt;")?,
                '"' => out.write_str("&quot;")?,
                '\'' => out.write_str("&apos;")?,
                c => out.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_display_name_takes_any_letter_but_no_line_break() {
        for fine in [
            "Zoë",
            "Müller & <Söhne> \"x\" 'y' ; # % $ \\",
            "田中 🦀",
            "NO",
            "%NULL%",
        ] {
            assert!(DisplayName::try_from(fine).is_ok(), "{fine}");
        }
        for (wrong, why) in [
            ("a\nb", "line break"),
            ("a\rb", "line break"),
            ("a\u{85}b", "control"),
            ("a\0b", "control"),
            ("a\u{2028}b", "separator"),
            ("a\u{202e}b", "bidirectional"),
            ("a\u{ffff}b", "non-character"),
            (" a", "white space"),
            ("", "empty"),
        ] {
            let error = DisplayName::try_from(wrong).unwrap_err();
            assert!(error.contains(why), "{wrong:?}: {error}");
        }
        assert!(DisplayName::try_from("x".repeat(129)).is_err());
    }

    #[test]
    fn a_mailbox_is_one_and_has_its_context() {
        for fine in [
            "1001@default",
            "a.b-c_d@Berlin",
            &format!("{0}@{0}", "1".repeat(79)),
        ] {
            assert!(Mailbox::try_from(fine).is_ok(), "{fine}");
        }
        let long = "1".repeat(80);
        for (wrong, why) in [
            ("", "context behind an @"),
            ("1001", "context behind an @"),
            ("1001@", "1 to 79 characters: the context"),
            ("@default", "1 to 79 characters: the mailbox"),
            ("1001@default,1002@default", "may hold only"),
            ("1001@a@b", "may hold only"),
            ("1001 @default", "may hold only"),
            ("1001@d\u{e9}fault", "may hold only"),
            ("1001@default\n", "may hold only"),
            (
                &format!("{long}@default"),
                "1 to 79 characters: the mailbox",
            ),
            (&format!("1001@{long}"), "1 to 79 characters: the context"),
        ] {
            let error = Mailbox::try_from(wrong).unwrap_err();
            assert!(error.contains(why), "{wrong:?}: {error}");
        }
    }

    #[test]
    fn a_dial_pattern_is_digits_sets_and_a_last_dot() {
        for fine in [
            "x", "110", "0x.", "[2-9]xxx", "*xx", "+49x.", "#9", "1[05]x",
        ] {
            assert!(DialPattern::try_from(fine).is_ok(), "{fine}");
        }
        for wrong in [
            "", ".", "x.x", "[", "[]", "[9-2]", "[2-9", "a", "0|1", "x ", "[a]", "(1)",
        ] {
            assert!(DialPattern::try_from(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_button_takes_what_can_be_dialled_or_a_url() {
        for fine in ["1002", "*98", "sip:a@b", "https://example.com/a?b=c&d"] {
            assert!(ButtonValue::try_from(fine).is_ok(), "{fine}");
        }
        for wrong in ["", "a b", "https://", "javascript:alert(1)", "https://a/\""] {
            assert!(ButtonValue::try_from(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for fine in ["pbx.example.com", "localhost", "127.0.0.1", "2001:db8::1"] {
            assert!(Host::try_from(fine).is_ok(), "{fine}");
        }
        for wrong in [
            "",
            "a b",
            "-a.example",
            "a..b",
            "1.2.3",
            "http://x",
            "a/b",
            "ü.example",
        ] {
            assert!(Host::try_from(wrong).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_mailbox_is_two_or_none_to_asterisk(text in "\\PC*|[01a@,. ]{0,8}|[a-z]{1,4}@[a-z]{1,4}") {
            if let Ok(mailbox) = Mailbox::try_from(text.clone()) {
                let parts: Vec<&str> = mailbox.as_str().split('@').collect();
                assert!(matches!(parts.as_slice(), [name, context] if !name.is_empty() && !context.is_empty()));
                assert!(!text.contains(|c: char| c == ',' || c.is_whitespace() || !c.is_ascii()));
            }
        }

        #[test]
        fn what_is_a_display_name_is_one_line(text in "\\PC*|[\\x00-\\x20\\u{80}-\\u{9f}a]*") {
            if let Ok(name) = DisplayName::try_from(text.clone()) {
                assert_eq!(name.as_str(), text);
                assert_eq!(name.as_str().lines().count(), 1);
                assert!(!name.as_str().chars().any(char::is_control));
            }
        }
    }
}
