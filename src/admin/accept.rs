//! What a caller takes (RFC 9110, 12.5.1).

/// Whether an `Accept` header takes a type; one that is empty takes everything.
#[must_use]
pub fn takes(accept: &str, content_type: &str) -> bool {
    if accept.trim().is_empty() {
        return true;
    }
    let wanted = content_type.split(';').next().unwrap_or_default().trim();
    let (main, sub) = wanted.split_once('/').unwrap_or((wanted, ""));
    // Of the ranges that fit the narrowest holds.
    let best = accept.split(',').filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let (range_main, range_sub) = parts.next()?.split_once('/')?;
        let fits = |wanted: &str, range: &str| range == "*" || range.eq_ignore_ascii_case(wanted);
        if !fits(main, range_main) || !fits(sub, range_sub) {
            return None;
        }
        let refused = parts.any(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            name.trim().eq_ignore_ascii_case("q")
                && value.trim().parse::<f32>().is_ok_and(|q| q <= 0.0)
        });
        Some((
            u8::from(range_main != "*") + u8::from(range_sub != "*"),
            !refused,
        ))
    });
    best.max().is_some_and(|(_, taken)| taken)
}

#[cfg(test)]
mod tests {
    use super::takes;

    #[test]
    fn the_narrowest_range_decides() {
        for (accept, json) in [
            ("", true),
            ("*/*", true),
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/*", true),
            ("text/html,application/xhtml+xml,*/*;q=0.8", true),
            ("text/html, application/json;q=0.1", true),
            ("text/html", false),
            ("application/problem+json", false),
            ("application/json;q=0", false),
            ("application/json;q=0.000, */*", false),
            ("*/*;q=0, application/json", true),
            ("nonsense", false),
        ] {
            assert_eq!(takes(accept, "application/json"), json, "{accept}");
        }
        assert!(takes("text/csv", "text/csv; charset=utf-8"));
    }
}
