//! The OpenAPI document: generated from the routes, completed with what all of them have in common.

use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, KnownFormat, ObjectBuilder, OpenApi, Ref, RefOr, ResponseBuilder, Schema, SchemaFormat,
    Type,
};
use utoipa::{Modify, OpenApi as _, PartialSchema, ToSchema};

use crate::protocol::api::{
    CallbackEvent, Changed, Correction, LiveOutput, Problem, ProblemCode, Resync, RunEnd,
};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Lockstep", description = "A compute pool for WebAssembly with redundant, verified execution."),
    components(schemas(CallbackEvent, Problem, LiveOutput, RunEnd, Changed, Correction, Resync)),
    tags(
        (name = "runs", description = "Submitting runs and reading what came of them"),
        (name = "modules", description = "WebAssembly modules, named by their digest"),
        (name = "blobs", description = "Inputs and outputs, named by their digest"),
        (name = "workers", description = "Who executes"),
        (name = "tokens", description = "Who may call"),
        (name = "pool", description = "The coordinator itself"),
    ),
    security(("token" = [])),
    modifiers(&Token),
)]
struct Skeleton;

/// Raw bytes, as a schema.
pub struct Binary;

impl PartialSchema for Binary {
    fn schema() -> RefOr<Schema> {
        let format = SchemaFormat::KnownFormat(KnownFormat::Binary);
        ObjectBuilder::new().schema_type(Type::String).format(Some(format)).into()
    }
}

impl ToSchema for Binary {}

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A token of this pool. The first start writes one to `DIR/token`."))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The document before any route is added.
pub fn skeleton() -> OpenApi {
    Skeleton::openapi()
}

/// The document after all routes are: with the problem that each may answer, and the list of codes.
pub fn complete(mut document: OpenApi) -> OpenApi {
    let mut text = document.info.description.take().unwrap_or_default();
    text.push_str("\n\nEvery error is a problem (RFC 9457) with one of these codes:\n\n| code | status | meaning |\n|---|---|---|\n");
    for code in ProblemCode::ALL {
        text.push_str(&format!("| `{}` | {} | {} |\n", code.name(), code.status(), code.meaning()));
    }
    document.info.description = Some(text);
    let paths = std::mem::take(&mut document.paths.paths);
    for (path, mut item) in paths {
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.delete,
            &mut item.head,
            &mut item.patch,
            &mut item.options,
        ];
        for operation in operations.into_iter().flatten() {
            add_problem(operation);
        }
        // the router's wildcard is a plain parameter to everybody else
        document.paths.paths.insert(path.replace("{*", "{"), item);
    }
    document
}

fn add_problem(operation: &mut Operation) {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let response = ResponseBuilder::new()
        .description("a problem; `code` tells which")
        .content("application/problem+json", content)
        .build();
    operation.responses.responses.insert("default".to_owned(), RefOr::T(response));
}
