//! What the API's document says of a type that no derive can describe: `schema!` stands beside the
//! type's bounds and takes its numbers from the constants that its parser goes by. On wasm there is
//! nothing of it: the document ([`crate::openapi`]) is made natively and served as a file.

/// The schema of a type, as JSON. `doc` is what the document says it is.
#[cfg(not(target_arch = "wasm32"))]
macro_rules! schema {
    ($type:ident, $doc:expr, { $($members:tt)* }) => {
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "description": $crate::openapi::sentences($doc),
                    $($members)*
                })
            }
        }
    };
}

#[cfg(target_arch = "wasm32")]
macro_rules! schema {
    ($($anything:tt)*) => {};
}
