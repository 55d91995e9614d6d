//! What only Cisco phones have.

use crate::fixtures::CASES;
use crate::vendors::cisco::KIT;

#[test]
fn a_multiplatform_phone_encrypts_as_its_pbx_demands() {
    let case = |name: &str| CASES.iter().find(|case| case.name == name).unwrap();
    let read = |name: &str| (KIT.read)("", &case(name).documents["p/ACC.cfg"]).unwrap();
    let tls = read("cisco/tls-srtp-backup");
    assert_eq!(tls["Secure_Call_Serv"], "Yes");
    assert_eq!(tls["Secure_Call_Setting"], "Yes");
    assert_eq!(tls["Secure_Call_Option_1_"], "Required");
    let plain = read("cisco/one-line");
    assert_eq!(plain["Secure_Call_Setting"], "No");
    assert_eq!(plain["Secure_Call_Option_1_"], "Optional");
    let former = read("cisco/former-tls-srtp-backup");
    assert_eq!(former["Secure_Call_Setting"], "Yes");
    assert_eq!(former["SRTP_Method"], "s-descriptor");
}
