//! `WebCrypto`'s RSASSA-PKCS1-v1_5 with SHA-256. RSA in wasm would be 100 KB and slow.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use worker::js_sys::{Array, Function, Object, Promise, Reflect, Uint8Array, global};
use worker::wasm_bindgen::{JsCast, JsValue};
use worker::wasm_bindgen_futures::JsFuture;

use crate::access::RsaKey;

/// Whether a key made this signature of these bytes (Web Cryptography API, 20).
pub async fn verify(key: &RsaKey, signed: &[u8], signature: &[u8]) -> Result<bool, JsValue> {
    let algorithm = object(&[
        ("name", "RSASSA-PKCS1-v1_5".into()),
        ("hash", "SHA-256".into()),
    ])?;
    let jwk = object(&[
        ("kty", "RSA".into()),
        ("n", URL_SAFE_NO_PAD.encode(key.modulus()).into()),
        ("e", URL_SAFE_NO_PAD.encode(key.exponent()).into()),
    ])?;
    let usages = Array::of1(&"verify".into());
    let imported = subtle(
        "importKey",
        &[
            "jwk".into(),
            jwk,
            algorithm.clone(),
            JsValue::FALSE,
            usages.into(),
        ],
    );
    let imported = imported?.await?;
    let verified = subtle(
        "verify",
        &[
            algorithm,
            imported,
            Uint8Array::from(signature).into(),
            Uint8Array::from(signed).into(),
        ],
    );
    // Only `true` itself is a yes.
    Ok(verified?.await?.as_bool() == Some(true))
}

fn object(members: &[(&str, JsValue)]) -> Result<JsValue, JsValue> {
    let object = Object::new();
    for (name, value) in members {
        Reflect::set(&object, &(*name).into(), value)?;
    }
    Ok(object.into())
}

/// Calls a method of `crypto.subtle`.
fn subtle(method: &str, arguments: &[JsValue]) -> Result<JsFuture, JsValue> {
    let crypto = Reflect::get(&global(), &"crypto".into())?;
    let subtle = Reflect::get(&crypto, &"subtle".into())?;
    let method: Function = Reflect::get(&subtle, &method.into())?.dyn_into()?;
    let arguments: Array = arguments.iter().collect();
    let promise: Promise = method.apply(&subtle, &arguments)?.dyn_into()?;
    Ok(JsFuture::from(promise))
}
