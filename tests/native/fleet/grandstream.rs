//! What only Grandstream phones have.

use super::catalogue;
use crate::vendors::grandstream::{KIT, binary, next};

#[test]
fn the_binary_takes_the_phone_to_its_files_at_once_and_holds_no_secret() {
    use crate::ask::{Told as _, fetch, get, put};
    let fake = catalogue::office();
    let record = serde_json::json!({
        "tenant": "acme", "vendor": "grandstream", "model": "GXP2124",
        "lines": [{ "line": 1, "account": "1001" }],
    });
    let created = put(&fake, &format!("devices/{}", KIT.mac), &record);
    let first = created["first_access"]["url"].as_str().unwrap();
    let first = first.strip_prefix(crate::ask::ORIGIN).unwrap();
    let agent = "Grandstream Model HW GXP2124 SW 1.0.8.6 DevId 000b82000001";
    for file in ["cfg000b82000001", "CFG000B82000001"] {
        let request = get(&format!("{first}{file}")).with("user-agent", agent);
        let response = fetch(&fake, &request);
        assert_eq!(response.status(), 200, "{file}");
        assert_eq!(
            response.headers()["content-type"],
            "application/octet-stream"
        );
        let settings = binary(response.body()).unwrap();
        let base = created["provisioning_url"].as_str().unwrap();
        assert_eq!(next(&settings).unwrap() + "/", base);
        let wanted = [
            ("P1414", "0"),
            ("P145", "0"),
            ("P193", "60"),
            ("P194", "1"),
            ("P238", "2"),
            ("P8337", "0"),
        ];
        for (key, value) in wanted {
            assert_eq!(settings[key], value, "{key}");
        }
        assert_eq!(settings.len(), wanted.len() + 2);
    }
}
