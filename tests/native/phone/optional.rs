//! Files that phones ask for at the RPS and need not get.

use crate::ask::{Told as _, cost, fetch, get};
use crate::phone::{MAC, Office, refused};

#[test]
fn an_office_of_phones_that_ask_for_optional_files_is_not_held_up() {
    let office = Office::new();
    // Of a phone that we know and of one that nobody has, of vendors with such files.
    for mac in [MAC, "0004f2aabbcc"] {
        for name in [
            format!("{mac}-license.cfg"),
            format!("{mac}-phone.cfg"),
            format!("{mac}-app.log"),
            format!("{mac}-calls.xml"),
            "3111-48450-001.sip.ld".to_owned(),
            "000000000000-license.cfg".to_owned(),
        ] {
            let request = get(&format!("/rps/{name}"));
            let (answer, kv, r2) = cost(&office.fake, &request);
            refused(&answer);
            assert_eq!(kv.all() + r2.all(), 0, "{name}");
            for _ in 0..400 {
                refused(&fetch(&office.fake, &request));
            }
        }
    }
    // And what leads somewhere is still looked for.
    for name in [
        format!("{MAC}.cfg"),
        format!("{MAC}.boot"),
        "0004f2aabbcc.cfg".to_owned(),
        "cfg000b82aabbcc".to_owned(),
        "snomD785-000413AABBCC.htm".to_owned(),
    ] {
        let request = get(&format!("/rps/{name}")).from("203.0.113.77");
        let (answer, kv, r2) = cost(&office.fake, &request);
        refused(&answer);
        assert_eq!((kv.all(), r2.all()), (1, 1), "{name}");
    }
}
