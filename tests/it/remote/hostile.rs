//! Opponents that speak the protocol, and some that don't: their sessions end, the coordinator goes on.

use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use futures_util::{SinkExt as _, StreamExt as _};
use lockstep::core::Class;
use lockstep::digest::Digest;
use lockstep::id::{AttemptId, RunId};
use lockstep::protocol::agent::{Assignment, BlobBody, FromAgent, VoteReport};
use lockstep::protocol::wire::{
    self, Batch, Facts, FromWorker, Greeting, Hello, ToWorker, VERSION, Welcome, decode_handshake,
    encode_handshake,
};
use lockstep::receipt::{merkle, sign_root};
use lockstep::result::{Fault, Outcome, OutputRef, ResultManifest};
use reqwest::Method;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::{crew, empty_pool, figure, ready, shown, submitted, worker_token};
use crate::support::{Pool, eventually, guest};

type Socket = WebSocketStream<TcpStream>;

/// A worker that the test speaks for.
struct Puppet {
    socket: Socket,
    key: SigningKey,
    class: Digest,
    welcome: Option<Welcome>,
}

async fn open(pool: &Pool, token: Option<&str>) -> Socket {
    let address = pool.url.trim_start_matches("http://");
    let mut request = format!("ws://{address}/v1/pool/session").into_client_request().unwrap();
    if let Some(token) = token {
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let stream = TcpStream::connect(address).await.unwrap();
    tokio_tungstenite::client_async(request, stream).await.unwrap().0
}

async fn next(socket: &mut Socket) -> Option<Bytes> {
    let next = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Binary(bytes))) => return Some(bytes),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return None,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), next).await.expect("an answer or an end")
}

impl Puppet {
    /// Shakes hands; `change` makes the hello another one.
    async fn hello(
        pool: &Pool,
        key: u8,
        token: Option<&str>,
        change: impl FnOnce(&mut Facts),
    ) -> (Puppet, Greeting) {
        let mut socket = open(pool, token).await;
        let Greeting::Challenge { nonce, .. } = decode_handshake(&next(&mut socket).await.unwrap()).unwrap()
        else {
            panic!("a challenge comes first");
        };
        let key = SigningKey::from_bytes(&[key; 32]);
        let mut facts = Facts {
            version: VERSION,
            name: "puppet".to_owned(),
            class: Digest::of(b"a class of its own"),
            slots: 1,
            memory_bytes: 1 << 30,
            labels: Vec::new(),
            holds: Vec::new(),
            build: "test".to_owned(),
            portable: Digest::of(b"a class of its own"),
            portable_code: Digest::of(b"a class of its own"),
            about: Vec::new(),
        };
        change(&mut facts);
        let class = facts.class;
        let hello = Hello::sign(&facts, &nonce, &key).unwrap();
        socket.send(Message::Binary(encode_handshake(&hello).unwrap())).await.unwrap();
        let answer = decode_handshake(&next(&mut socket).await.unwrap()).unwrap();
        (Puppet { socket, key, class, welcome: None }, answer)
    }

    async fn joined(pool: &Pool, key: u8, token: &str) -> Puppet {
        let (mut puppet, answer) = Puppet::hello(pool, key, Some(token), |_| {}).await;
        let Greeting::Welcome(welcome) = answer else { panic!("{answer:?}") };
        puppet.welcome = Some(welcome);
        puppet
    }

    fn id(&self) -> String {
        format!("w{}", self.welcome.as_ref().unwrap().worker)
    }

    /// Says something, its votes signed with `key` if there is one.
    async fn say(&mut self, messages: Vec<FromAgent>, key: Option<&SigningKey>) {
        self.try_say(messages, key).await.unwrap();
    }

    /// The same; an error says that the coordinator has cut it off.
    async fn try_say(
        &mut self,
        messages: Vec<FromAgent>,
        key: Option<&SigningKey>,
    ) -> Result<(), tokio_tungstenite::tungstenite::Error> {
        let mut batch = Batch::default();
        let mut leaves = Vec::new();
        for message in messages {
            if let FromAgent::Voted(report) = &message {
                leaves.push(report.statement().leaf());
            }
            batch.push(&FromWorker::of(message).unwrap()).unwrap();
        }
        if let Some(key) = key.filter(|_| !leaves.is_empty()) {
            let signature = sign_root(key, &merkle::root(&leaves), u32::try_from(leaves.len()).unwrap());
            batch.push(&FromWorker::Signature(signature.into())).unwrap();
        }
        self.socket.send(Message::Binary(batch.take())).await
    }

    async fn grant(&mut self, credits: u32, received: u64) {
        self.say(vec![FromAgent::Credits { credits, received }], None).await;
    }

    /// The next assignment.
    async fn assigned(&mut self) -> Assignment {
        loop {
            let message = next(&mut self.socket).await.expect("the session goes on");
            for frame in wire::decode::<ToWorker>(&message).unwrap() {
                if let ToWorker::Assign(frame) = frame {
                    return Assignment::try_from(*frame).unwrap();
                }
            }
        }
    }

    /// What it is asked for next.
    async fn asked(&mut self) -> (AttemptId, Vec<Digest>) {
        loop {
            let message = next(&mut self.socket).await.expect("the session goes on");
            for frame in wire::decode::<ToWorker>(&message).unwrap() {
                if let ToWorker::Collect { attempt, digests } = frame {
                    return (attempt.into(), digests);
                }
            }
        }
    }

    /// An honest-looking vote.
    fn vote(&self, assignment: &Assignment) -> VoteReport {
        let text = Bytes::from_static(b"made up\n");
        let manifest = ResultManifest {
            outcome: Outcome::Exited { code: 0 },
            stdout: OutputRef::of(&text),
            stderr: OutputRef::of(b""),
            files: Vec::new(),
            fuel_used: None,
        };
        let canonical = Bytes::from(manifest.canonical());
        VoteReport {
            attempt: assignment.attempt,
            epoch: assignment.epoch,
            nonce: assignment.nonce,
            run_key: assignment.run_key,
            class: Class(self.class),
            artifact: Digest::of(b"artifact"),
            result: Digest::of(&canonical),
            manifest: canonical,
            inline: vec![(manifest.stdout.digest, text)],
            cpu_us: 5,
            begun_at_us: u64::MAX,
            proof: None,
        }
    }
}

fn code(answer: &Greeting) -> &str {
    match answer {
        Greeting::Rejected { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_hello_that_is_wrong_is_rejected_with_a_word_for_it() {
    let pool = empty_pool(&[]).await;
    let token = worker_token(&pool).await;
    let token = Some(token.as_str());
    let (_, answer) = Puppet::hello(&pool, 1, token, |facts| facts.version = 99).await;
    assert_eq!(code(&answer), "version");
    let (_, answer) = Puppet::hello(&pool, 1, token, |facts| facts.slots = 0).await;
    assert_eq!(code(&answer), "facts");
    let (_, answer) = Puppet::hello(&pool, 1, token, |facts| facts.slots = u32::MAX).await;
    assert_eq!(code(&answer), "facts");
    let (_, answer) = Puppet::hello(&pool, 1, token, |facts| facts.name = "\u{1b}[2J".to_owned()).await;
    assert_eq!(code(&answer), "facts");
    let large = ("zone".to_owned(), "b".repeat(100_000));
    let (_, answer) = Puppet::hello(&pool, 1, token, |facts| facts.labels = vec![large]).await;
    assert_eq!(code(&answer), "facts");
    let (_, answer) = Puppet::hello(&pool, 1, None, |_| {}).await;
    assert_eq!(code(&answer), "token");
    for garbage in [Message::Binary(Bytes::from_static(b"\0garbage")), Message::Text("hello".into())] {
        let mut socket = open(&pool, token).await;
        drop(next(&mut socket).await);
        socket.send(garbage).await.unwrap();
        let answer = decode_handshake(&next(&mut socket).await.unwrap()).unwrap();
        assert_eq!(code(&answer), "protocol");
        assert!(next(&mut socket).await.is_none(), "and that is the end");
    }
    let (_, workers) = pool.get("/v1/workers").await;
    assert_eq!(workers["items"], json!([]), "nobody was enrolled");
    assert_eq!(pool.get("/v1/pool/session").await.0, 400);
}

#[tokio::test]
async fn a_session_with_garbage_ends_and_nobody_else_suffers() {
    let pool = empty_pool(&[]).await;
    let token = worker_token(&pool).await;
    let dir = tempfile::tempdir().unwrap();
    let _workers = crew(&pool, dir.path(), &[&[], &[]]).await;
    let oversized = Bytes::from(vec![1; wire::MESSAGE_BYTES_MAX + 1]);
    for (key, garbage) in
        [Bytes::from_static(b"\x01\xff\xff\xff"), Bytes::from_static(b"\x63"), Bytes::new(), oversized]
            .into_iter()
            .enumerate()
    {
        let mut puppet = Puppet::joined(&pool, u8::try_from(key).unwrap() + 1, &token).await;
        // one that is too large is cut off before it is whole
        drop(puppet.socket.send(Message::Binary(garbage)).await);
        eventually("its session ends", async || {
            let end = tokio::time::timeout(Duration::from_millis(50), next(&mut puppet.socket)).await;
            matches!(end, Ok(None)).then_some(())
        })
        .await;
    }
    let module = pool.push(guest("hello.wasm")).await;
    let run = pool.run(json!({ "module": module })).await;
    assert_eq!(run["verdict"]["votes"], 2, "{run}");
    assert!(figure(&pool, "lockstep_sessions_refused_total{why=\"protocol\"}").await >= 2);
}

#[tokio::test]
async fn votes_that_are_not_what_they_should_be_are_refused_and_counted() {
    let settings =
        ["fresh_worker_wait=0ms", "refusals_max=1000", "worker_failures_max=1000", "worker_lost=60s"];
    let pool = empty_pool(&settings).await;
    let token = worker_token(&pool).await;
    let mut puppet = Puppet::joined(&pool, 1, &token).await;
    let stranger = SigningKey::from_bytes(&[9; 32]);
    let module = pool.push(guest("hello.wasm")).await;
    type Change = fn(&mut VoteReport);
    let cases: [(&str, Change); 6] = [
        ("nonce", |vote| vote.nonce = [7; 16]),
        ("nonce", |vote| vote.attempt = AttemptId { run: RunId(3), number: 1 }),
        ("class", |vote| vote.class = Class(Digest::EMPTY)),
        ("run_key", |vote| vote.run_key = Digest::EMPTY),
        ("manifest", |vote| vote.result = Digest::EMPTY),
        ("inline", |vote| vote.inline[0].1 = Bytes::from_static(b"other")),
    ];
    let mut received = 0;
    for (seed, (why, change)) in cases.into_iter().enumerate() {
        puppet.grant(1, received).await;
        let request = json!({"module": module, "seed": seed, "verify": {"policy": "once"}});
        let run = submitted(&pool, &request).await;
        let assignment = puppet.assigned().await;
        received += 1;
        let name = format!("lockstep_votes_refused_total{{why=\"{why}\"}}");
        let before = figure(&pool, &name).await;
        let mut vote = puppet.vote(&assignment);
        change(&mut vote);
        let key = puppet.key.clone();
        puppet.say(vec![FromAgent::Voted(Box::new(vote))], Some(&key)).await;
        eventually(&format!("it is counted as {why}"), async || {
            (figure(&pool, &name).await > before).then_some(())
        })
        .await;
        assert_eq!(pool.post(&format!("/v1/runs/{run}/cancel"), &json!({})).await.1["state"], "canceled");
    }
    for key in [None, Some(&stranger)] {
        puppet.grant(1, received).await;
        let run =
            submitted(&pool, &json!({"module": module, "seed": 99, "verify": {"policy": "once"}})).await;
        let assignment = puppet.assigned().await;
        received += 1;
        let vote = puppet.vote(&assignment);
        puppet.say(vec![FromAgent::Voted(Box::new(vote))], key).await;
        let (_, seen) = eventually("the vote is a fault", async || {
            let seen = pool.get(&format!("/v1/runs/{run}")).await;
            (seen.1["attempts"][0]["fault"]["kind"] == "corrupt").then_some(seen)
        })
        .await;
        assert!(super::texts(&seen).contains("signature"), "{seen}");
        drop(pool.post(&format!("/v1/runs/{run}/cancel"), &json!({})).await);
    }
    assert!(figure(&pool, "lockstep_votes_refused_total{why=\"signature\"}").await >= 2);

    // and one that is right is taken, although its worker's clock is centuries ahead
    puppet.grant(1, received).await;
    let run = submitted(&pool, &json!({"module": module, "seed": 100, "verify": {"policy": "once"}})).await;
    let assignment = puppet.assigned().await;
    let (vote, key) = (puppet.vote(&assignment), puppet.key.clone());
    puppet.say(vec![FromAgent::Voted(Box::new(vote))], Some(&key)).await;
    let run = pool.finished(&run).await;
    assert_eq!((&run["state"], &run["stdout"]["text"]), (&json!("succeeded"), &json!("made up\n")), "{run}");
}

#[tokio::test]
async fn what_a_worker_says_of_others_attempts_is_not_heard() {
    let pool = empty_pool(&["worker_lost=60s"]).await;
    let token = worker_token(&pool).await;
    let (mut holder, mut other) =
        (Puppet::joined(&pool, 1, &token).await, Puppet::joined(&pool, 2, &token).await);
    let module = pool.push(guest("hello.wasm")).await;
    // said last, because puppets have no heart: a while later they would be suspect; and far more than its slots
    other.grant(0, 0).await;
    holder.grant(u32::MAX, 0).await;
    let run = submitted(&pool, &json!({"module": module, "verify": {"policy": "once"}})).await;
    let assignment = holder.assigned().await;
    let shown_holder = shown(&pool, &holder.id()).await;
    assert!(shown_holder["credits"].as_u64() <= Some(64), "{shown_holder}");
    let (attempt, epoch) = (assignment.attempt, assignment.epoch);
    let fault = Fault::TimedOut;
    let blob = Bytes::from_static(b"made up\n");
    let key = other.key.clone();
    let vote = VoteReport { ..other.vote(&assignment) };
    let said = vec![
        FromAgent::Faulted { attempt, epoch, fault, begun_at_us: Some(0), cpu_us: u64::MAX },
        FromAgent::Blobs { attempt, blobs: vec![(Digest::of(&blob), BlobBody::Inline(blob.clone()))] },
        FromAgent::Live { attempt, is_stderr: false, offset: u64::MAX, bytes: blob.clone() },
        FromAgent::Voted(Box::new(vote)),
        FromAgent::Heartbeat(vec![]),
    ];
    other.say(said, Some(&key)).await;
    eventually("its vote is refused", async || {
        (figure(&pool, "lockstep_votes_refused_total{why=\"attempt\"}").await == 1).then_some(())
    })
    .await;
    let (vote, key) = (holder.vote(&assignment), holder.key.clone());
    holder.say(vec![FromAgent::Voted(Box::new(vote))], Some(&key)).await;
    let run = pool.finished(&run).await;
    assert_eq!((&run["state"], run["attempts"].as_array().unwrap().len()), (&json!("succeeded"), 1), "{run}");
}

#[tokio::test]
async fn the_end_of_a_stale_session_does_not_touch_the_new_one() {
    let pool = empty_pool(&["worker_lost=60s", "fresh_worker_wait=0ms"]).await;
    let token = worker_token(&pool).await;
    let mut old = Puppet::joined(&pool, 1, &token).await;
    old.grant(1, 0).await;
    ready(&pool, 1).await;
    let module = pool.push(guest("hello.wasm")).await;
    let mut new = Puppet::joined(&pool, 1, &token).await;
    assert_eq!(new.id(), old.id());
    // the old one is closed by the coordinator, or says something that nobody hears
    drop(old.socket.send(Message::Binary(Bytes::from_static(b"\x01\x06"))).await);
    eventually("the old session ends", async || {
        let end = tokio::time::timeout(Duration::from_millis(50), next(&mut old.socket)).await;
        matches!(end, Ok(None)).then_some(())
    })
    .await;
    drop(old);
    new.grant(1, 0).await;
    let run = submitted(&pool, &json!({"module": module, "verify": {"policy": "once"}})).await;
    let assignment = new.assigned().await;
    assert_eq!(shown(&pool, &new.id()).await["standing"], "active");
    let (vote, key) = (new.vote(&assignment), new.key.clone());
    new.say(vec![FromAgent::Voted(Box::new(vote))], Some(&key)).await;
    assert_eq!(pool.finished(&run).await["state"], "succeeded");
}

#[tokio::test]
async fn a_sessions_token_opens_blobs_and_nothing_else() {
    let pool = empty_pool(&["worker_lost=60s"]).await;
    let token = worker_token(&pool).await;
    let puppet = Puppet::joined(&pool, 1, &token).await;
    let bearer = puppet.welcome.as_ref().unwrap().http_token.clone();
    assert!(bearer.starts_with("lsw_"));
    let module = pool.push(guest("hello.wasm")).await;
    let http = crate::support::http();
    let status = async |method: Method, path: String, body: &'static str| {
        let request = http.request(method, format!("{}{path}", pool.url)).bearer_auth(&bearer).body(body);
        request.send().await.unwrap().status().as_u16()
    };
    // nobody has asked it for anything, be it stored or not
    let digest = Digest::of(b"made up\n");
    assert_eq!(status(Method::PUT, format!("/v1/blobs/{digest}"), "made up\n").await, 403);
    assert_eq!(status(Method::PUT, format!("/v1/blobs/{module}"), "").await, 403);
    assert_eq!(status(Method::GET, format!("/v1/blobs/{module}"), "").await, 200);
    assert_eq!(status(Method::GET, format!("/v1/modules/{module}/content"), "").await, 200);
    for (method, path) in [
        (Method::GET, "/v1/runs"),
        (Method::POST, "/v1/runs"),
        (Method::GET, "/v1/workers"),
        (Method::POST, "/v1/blobs"),
        (Method::GET, "/v1/tokens"),
        (Method::POST, "/v1/modules"),
    ] {
        assert_eq!(status(method.clone(), path.to_owned(), "").await, 401, "{method} {path}");
    }
    let path = format!("/v1/workers/{}/quarantine", puppet.id());
    assert_eq!(pool.post(&path, &json!({"why": "a test"})).await.0, 200);
    assert_eq!(status(Method::GET, format!("/v1/blobs/{module}"), "").await, 401);
}

#[tokio::test]
async fn a_worker_puts_the_outputs_that_it_is_asked_for_and_no_more_bytes() {
    let pool = empty_pool(&["worker_lost=60s", "heartbeat=20s"]).await;
    let token = worker_token(&pool).await;
    let mut puppet = Puppet::joined(&pool, 1, &token).await;
    let bearer = puppet.welcome.as_ref().unwrap().http_token.clone();
    let module = pool.push(guest("hello.wasm")).await;
    puppet.grant(1, 0).await;
    let run = submitted(&pool, &json!({"module": module, "verify": {"policy": "once"}})).await;
    let assignment = puppet.assigned().await;
    // it keeps its output to itself until it is asked
    let (vote, key) = (puppet.vote(&assignment), puppet.key.clone());
    let digest = vote.inline[0].0;
    let vote = VoteReport { inline: Vec::new(), ..vote };
    puppet.say(vec![FromAgent::Voted(Box::new(vote))], Some(&key)).await;
    let attempt = assignment.attempt;
    assert_eq!(puppet.asked().await, (attempt, vec![digest]));
    let put = async |digest: Digest, body: &'static str| {
        let request =
            pool.http.put(format!("{}/v1/blobs/{digest}", pool.url)).bearer_auth(&bearer).body(body);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(put(Digest::of(b"other"), "other").await, 403);
    assert_eq!(put(digest, "made off").await, 422);
    assert_eq!(put(digest, "made up\nand more").await, 413);
    assert_eq!(put(digest, "made up\n").await, 201);
    assert_eq!(put(digest, "made up\n").await, 200);
    let stored = vec![(digest, BlobBody::Stored { size: 8 })];
    puppet.say(vec![FromAgent::Blobs { attempt, blobs: stored }], None).await;
    let run = pool.finished(&run).await;
    assert_eq!((&run["state"], &run["stdout"]["digest"]), (&json!("succeeded"), &json!(digest)), "{run}");
    assert_eq!(put(digest, "made up\n").await, 403, "what was asked for has come");
}

#[tokio::test]
async fn a_worker_that_floods_is_slowed_down_or_cut_off_and_nobody_else_is() {
    let pool = empty_pool(&[]).await;
    let token = worker_token(&pool).await;
    let dir = tempfile::tempdir().unwrap();
    let _workers = crew(&pool, dir.path(), &[&[], &[]]).await;
    let mut puppet = Puppet::joined(&pool, 1, &token).await;
    let flood = tokio::spawn(async move {
        // far more than may wait for the owner, of attempts that nobody ever had
        for number in 0..4_000_u128 {
            let beat = |index| lockstep::protocol::agent::Beat {
                attempt: AttemptId { run: RunId(number << 16 | u128::from(index)), number: index },
                cpu_us: 1,
                begun_at_us: Some(1),
            };
            // it is told to stop each of them, and reads none of that
            if puppet.try_say(vec![FromAgent::Heartbeat((0..100).map(beat).collect())], None).await.is_err() {
                return;
            }
        }
    });
    let module = pool.push(guest("hello.wasm")).await;
    for seed in 0..20 {
        let request = json!({"module": module, "seed": seed, "verify": {"policy": "quorum", "n": 2}});
        let run = pool.run(request).await;
        assert_eq!(run["verdict"]["votes"], 2, "{run}");
    }
    tokio::time::timeout(Duration::from_secs(60), flood).await.expect("it is taken, or cut off").unwrap();
    let (_, workers) = pool.get("/v1/workers").await;
    let active = workers["items"].as_array().unwrap().iter().filter(|worker| worker["standing"] == "active");
    assert!(active.count() >= 2, "{workers}");
}
