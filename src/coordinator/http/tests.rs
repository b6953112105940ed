use serde_json::Value;

use super::*;
use crate::protocol::api::ProblemCode;

/// The snapshot that `web-ui` generates its types from.
const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/openapi.json");

#[test]
fn the_document_is_the_one_that_clients_were_built_from() {
    let document = openapi_document();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(SNAPSHOT, &document).unwrap();
    }
    let pinned = std::fs::read_to_string(SNAPSHOT).unwrap_or_default();
    let differs = document.lines().zip(pinned.lines()).position(|(now, then)| now != then);
    assert!(
        document == pinned,
        "the API differs from tests/openapi.json (first in line {}): if that is meant, run\n\
         UPDATE_OPENAPI=1 cargo test --lib the_document_is_the_one\nand commit the file",
        differs.map_or_else(|| "after the shorter one's end".to_owned(), |line| (line + 1).to_string())
    );
}

#[test]
fn every_operation_is_described_and_may_answer_a_problem() {
    let document: Value = serde_json::from_str(&openapi_document()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = std::collections::BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        assert!(!path.contains('*'), "{path}");
        for (method, operation) in item.as_object().unwrap() {
            let at = format!("{method} {path}");
            assert!(
                operation["summary"].as_str().is_some_and(|text| !text.is_empty()),
                "{at} has no summary"
            );
            assert!(operation["responses"]["default"].is_object(), "{at} has no problem");
            assert!(
                ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
                "{at} has the id of another"
            );
            let open = matches!(
                path.as_str(),
                "/healthz" | "/readyz" | "/openapi.json" | "/v1/pool/session" | "/v1/keys"
            );
            assert_eq!(operation["security"].is_array(), open, "{at}: only what is open overrides the token");
            for part in path.split('/').filter_map(|part| part.strip_prefix('{')) {
                let name = part.trim_end_matches('}');
                let named = |parameter: &Value| parameter["name"] == name && parameter["in"] == "path";
                assert!(operation["parameters"].as_array().unwrap().iter().any(named), "{at}: {name}");
            }
        }
    }
    assert!(ids.len() >= 30, "{ids:?}");
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|value| walk(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| walk(value, found)),
            _ => {}
        }
    }
    let document: Value = serde_json::from_str(&openapi_document()).unwrap();
    let mut found = Vec::new();
    walk(&document, &mut found);
    assert!(found.len() > 50);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

#[test]
fn every_problem_code_is_documented_with_what_to_do() {
    let document: Value = serde_json::from_str(&openapi_document()).unwrap();
    let text = document["info"]["description"].as_str().unwrap();
    let listed = document["components"]["schemas"]["ProblemCode"]["enum"].as_array().unwrap();
    assert_eq!(listed.len(), ProblemCode::ALL.len());
    for code in ProblemCode::ALL {
        assert!(text.contains(&format!("| `{}` | {} | ", code.name(), code.status())), "{}", code.name());
        assert_eq!(serde_json::to_value(code).unwrap(), code.name());
        assert!(listed.iter().any(|name| name == code.name()));
    }
}
