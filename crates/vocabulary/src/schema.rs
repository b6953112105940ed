//! How types that travel as text are described to readers of the API.

use crate::digest::Digest;
use crate::id::{AttemptId, RunId, WorkerId};

/// Describes types that travel as text: what they are, the pattern that they match, an example.
#[macro_export]
macro_rules! text_schemas {
    ($($type:ty: $description:literal, $pattern:expr, $example:literal;)+) => {$(
        impl ::utoipa::PartialSchema for $type {
            fn schema() -> ::utoipa::openapi::RefOr<::utoipa::openapi::schema::Schema> {
                let text = ::utoipa::openapi::schema::ObjectBuilder::new()
                    .schema_type(::utoipa::openapi::schema::Type::String)
                    .description(Some($description));
                let pattern: Option<&str> = $pattern;
                text.pattern(pattern).examples([::serde_json::json!($example)]).build().into()
            }
        }

        impl ::utoipa::ToSchema for $type {}
    )+};
}

text_schemas! {
    Digest: "SHA-256 of bytes", Some("^sha256:[0-9a-f]{64}$"),
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    RunId: "A UUIDv7", Some("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"), "01920000-0000-7000-8000-000000000001";
    AttemptId: "The run's id, a dot and the attempt's number", None, "01920000-0000-7000-8000-000000000001.1";
    WorkerId: "`w` and the worker's number", Some("^w[0-9]+$"), "w1";
}
