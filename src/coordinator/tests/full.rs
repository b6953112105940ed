//! What operators hear over HTTP while the disk is full.

use super::*;
use crate::coordinator::testing::{PATIENCE, make_full, make_room};

/// So many are out that their rows no longer fit into the pages that there are.
const WORKERS: u8 = 12;

#[tokio::test]
async fn on_a_full_disk_an_order_holds_says_so_and_is_stored_when_there_is_room() {
    let cache = CacheConfig { entries_max: 0, bytes_max: 1 << 20, age_ms: 60_000 };
    let stage = Stage::over(cache, Options { pages_max: Some(400) }).await;
    let store = Arc::clone(&stage.running().store);
    let mut workers = Vec::new();
    for number in 1..=WORKERS {
        workers.push(stage.joined(number).await);
    }
    make_full(store.as_ref()).await;
    // the longest that is taken
    let order = json!({"why": "\u{1f512}".repeat(500)}).to_string();
    let mut said = Vec::new();
    for (worker, ..) in &workers {
        let path = format!("/v1/workers/{worker}");
        let quarantine = format!("{path}/quarantine");
        let asking = stage.send("POST", &quarantine, order.clone().into());
        let (status, bytes) = tokio::time::timeout(PATIENCE, asking).await.expect("it is answered");
        let answer: Value = serde_json::from_slice(&bytes).unwrap();
        let (_, shown) = stage.json(&path).await;
        assert_eq!(shown["standing"], "quarantined", "it holds at once, {status}: {shown}");
        if status != StatusCode::OK {
            said.push((*worker, path, status, answer));
        }
    }
    // the second one stands behind the first, which is tried again and again
    assert!(said.len() >= 2, "there is no room for so many");
    for (.., status, answer) in &said {
        let expected = (StatusCode::INSUFFICIENT_STORAGE, &json!("disk_full"));
        assert_eq!((*status, &answer["code"]), expected, "{answer}");
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.starts_with("it holds now, and is stored as soon as"), "{detail}");
    }
    let (worker, path, ..) = said.pop().unwrap();
    let row = async || store.workers().await.unwrap().into_iter().find(|row| row.id == worker).unwrap();
    assert_eq!(row().await.quarantined, None, "nothing of it is stored");
    make_room(store.as_ref()).await;
    eventually("it is stored without being said again", async || row().await.quarantined).await;
    // and the end of it is an order like any other
    let (status, _) = stage.send("POST", &format!("{path}/readmit"), Body::empty()).await;
    assert_eq!((status, row().await.quarantined), (StatusCode::OK, None));
    stage.end().await;
}
