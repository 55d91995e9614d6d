//! An issuer of JWTs, as Cloudflare Access is one.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rsa::pkcs1v15::SigningKey;
use rsa::sha2::Sha256;
use rsa::signature::{SignatureEncoding as _, Signer as _};
use rsa::traits::PublicKeyParts as _;
use rsa::{Generate as _, PrivateKey};
use serde_json::{Value, json};

/// The audience tag of the application.
pub const AUD: &str = "4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2";

/// A key of the issuer's.
pub struct Key {
    pub kid: &'static str,
    private: PrivateKey,
}

impl Key {
    fn new(kid: &'static str) -> Self {
        Self {
            kid,
            private: PrivateKey::generate(),
        }
    }

    /// The public key as a JWK (RFC 7517), as Access publishes it.
    pub fn jwk(&self) -> Value {
        json!({
            "kid": self.kid,
            "kty": "RSA",
            "alg": "RS256",
            "use": "sig",
            "n": URL_SAFE_NO_PAD.encode(self.private.n_bytes()),
            "e": URL_SAFE_NO_PAD.encode(self.private.e_bytes()),
        })
    }

    /// A JWT (RFC 7519) with these claims.
    pub fn jwt(&self, claims: &Value) -> String {
        let header = json!({ "alg": "RS256", "kid": self.kid, "typ": "JWT" });
        self.jwt_with(&header, claims)
    }

    /// A JWT that is signed with nothing but the public key, as the secret of an HMAC (RFC 8725, 2.1).
    pub fn jwt_by_hmac(&self, claims: &Value) -> String {
        let signed = signed_part(&json!({ "alg": "HS256", "kid": self.kid }), claims);
        let mac = Hmac::<Sha256>::new_from_slice(&self.private.n_bytes()).unwrap();
        let mac = mac.chain_update(&signed).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))
    }

    /// A JWT with this header.
    pub fn jwt_with(&self, header: &Value, claims: &Value) -> String {
        let signed = signed_part(header, claims);
        let key = SigningKey::<Sha256>::new(self.private.clone());
        let signature = key.sign(signed.as_bytes()).to_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// What of a JWT is signed (RFC 7515, 5.1).
pub fn signed_part(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// The same JWT about somebody else: its signature stays.
pub fn with_claims(jwt: &str, claims: &Value) -> String {
    let mut parts: Vec<&str> = jwt.split('.').collect();
    let changed = URL_SAFE_NO_PAD.encode(claims.to_string());
    parts[1] = &changed;
    parts.join(".")
}

/// What the issuer publishes.
pub fn certs(keys: &[&Key]) -> Value {
    let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
    json!({ "keys": keys, "public_cert": { "kid": "", "cert": "" }, "public_certs": [] })
}

/// The key that is in use: made once, since that takes a while.
pub static FIRST: LazyLock<Key> = LazyLock::new(|| Key::new("first"));

/// The next one, or somebody else's.
pub static SECOND: LazyLock<Key> = LazyLock::new(|| Key::new("second"));
