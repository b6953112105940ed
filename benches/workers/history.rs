//! A client that writes down what it was told, and the check of what it wrote.
//!
//! It keeps a number of submissions in flight, each under an idempotency key of its own, and sends one again under the same
//! key when it got no answer. Afterwards the pool's own list is compared with it, and every key is asked once more.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use serde_json::Value;

use crate::support::{Pool, is_final};

/// Submissions at once.
pub const IN_FLIGHT: usize = 64;
/// A run that is not final by then is stuck.
const STUCK: Duration = Duration::from_secs(120);
/// An answer about a run that is final is stuck if it takes longer.
const AGAIN_MAX: Duration = Duration::from_secs(30);
/// How long one request may wait for the run's end.
const WAIT_MS: u64 = 60_000;

/// Who submits.
pub struct Client {
    http: reqwest::Client,
    url: String,
    token: String,
}

/// What came of one submission; `T` is what the caller wants to know of the run.
pub struct Entry<T> {
    key: String,
    request: Value,
    /// Every id that was ever answered under the key; more than one is a doubled run.
    ids: BTreeSet<String>,
    result: Value,
    /// `None`: not final in time.
    pub seen: Option<Result<T, String>>,
    /// From the first attempt to submit to the final answer.
    pub took: Duration,
}

/// What must be nought.
#[derive(Default, Debug)]
pub struct Findings {
    pub runs: usize,
    pub lost: usize,
    pub doubled: usize,
    pub wrong: usize,
    pub stuck: usize,
    /// The longest that an answer took about a run that is final: it must not wait for anything.
    pub slowest_again: Duration,
    /// The first few, in words.
    pub words: Vec<String>,
}

impl Findings {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        (self.lost, self.doubled, self.wrong, self.stuck) == (0, 0, 0, 0)
    }

    fn say(&mut self, what: String) {
        if self.words.len() < 5 {
            self.words.push(what);
        }
    }
}

impl Client {
    /// A client of this pool, by its address or through something that leads there.
    pub fn new(pool: &Pool, url: &str) -> Client {
        Client { http: pool.http.clone(), url: url.to_owned(), token: pool.token.clone() }
    }

    /// One request; `None` if there was no answer.
    async fn submit(&self, key: &str, request: &Value) -> Option<(u16, Value)> {
        let post = self.http.post(format!("{}/v1/runs", self.url)).bearer_auth(&self.token);
        let answer = post.header("idempotency-key", key).json(request).timeout(STUCK).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.ok()?))
    }

    async fn one<T>(
        &self,
        key: String,
        mut request: Value,
        check: impl Fn(&Value) -> Result<T, String>,
    ) -> Entry<T> {
        request["wait_ms"] = WAIT_MS.into();
        let begun = Instant::now();
        let mut ids = BTreeSet::new();
        let mut end = (Value::Null, None);
        while begun.elapsed() < STUCK {
            match self.submit(&key, &request).await {
                Some((200 | 201, run)) => {
                    ids.insert(run["id"].as_str().unwrap_or_default().to_owned());
                    if is_final(&run) {
                        end = (run["result"].clone(), Some(check(&run)));
                        break;
                    }
                }
                // nothing was acknowledged: full, stopping, or its workers are not back yet
                Some((409 | 429 | 503, _)) | None => {}
                Some((status, problem)) => {
                    end.1 = Some(Err(format!("answered {status}: {problem}")));
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (result, seen) = end;
        Entry { key, request, ids, result, seen, took: begun.elapsed() }
    }

    /// Submits `count` runs, [`IN_FLIGHT`] at once, under keys that begin with `prefix`.
    pub async fn drive<T>(
        &self,
        prefix: &str,
        count: usize,
        request: impl Fn(&str) -> Value,
        check: impl Fn(&str, &Value) -> Result<T, String>,
    ) -> Vec<Entry<T>> {
        let (request, check) = (&request, &check);
        let runs = (0..count).map(|number| {
            let key = format!("{prefix}-{number}");
            let text = key.clone();
            self.one(key, request(&text), move |run| check(&text, run))
        });
        futures_util::stream::iter(runs).buffer_unordered(IN_FLIGHT).collect().await
    }

    /// Compares what was written down with what the pool has. All runs of the pool must be in `entries`.
    pub async fn audit<T>(&self, pool: &Pool, entries: &[Entry<T>]) -> Findings {
        let mut findings = Findings { runs: entries.len(), ..Findings::default() };
        let stored = listed(pool).await;
        let mut known = BTreeSet::new();
        for entry in entries {
            match &entry.seen {
                None => {
                    findings.stuck += 1;
                    findings.say(format!("{} never ended: {:?}", entry.key, entry.ids));
                }
                Some(Err(why)) => {
                    findings.wrong += 1;
                    findings.say(format!("{}: {why}", entry.key));
                }
                Some(Ok(_)) => {}
            }
            let ids = &entry.ids;
            findings.doubled += ids.len().saturating_sub(1);
            let gone = ids.iter().filter(|id| !stored.contains(*id)).count();
            if gone > 0 {
                findings.lost += gone;
                findings.say(format!("{} was acknowledged and is not listed: {ids:?}", entry.key));
            }
            known.extend(ids.iter().cloned());
        }
        for id in stored.difference(&known) {
            findings.doubled += 1;
            findings.say(format!("run {id} answers to no submission"));
        }
        self.ask_again(entries, &mut findings).await;
        findings
    }

    /// The same key again is the same run with the same result, whatever happened in between.
    async fn ask_again<T>(&self, entries: &[Entry<T>], findings: &mut Findings) {
        let ended = entries.iter().filter(|entry| matches!(entry.seen, Some(Ok(_))));
        let again = ended.map(async |entry| {
            let begun = Instant::now();
            (entry, self.submit(&entry.key, &entry.request).await, begun.elapsed())
        });
        let mut again = futures_util::stream::iter(again).buffer_unordered(IN_FLIGHT);
        while let Some((entry, answer, took)) = again.next().await {
            findings.slowest_again = findings.slowest_again.max(took);
            if took > AGAIN_MAX {
                findings.stuck += 1;
                findings
                    .say(format!("{} is final and was answered after {took:?}: {:?}", entry.key, entry.ids));
            }
            let Some((status, run)) = answer else {
                findings.stuck += 1;
                findings.say(format!("{}: no answer when it was asked again", entry.key));
                continue;
            };
            let id = run["id"].as_str().unwrap_or_default();
            if status != 200 || !entry.ids.contains(id) {
                findings.lost += 1;
                findings.say(format!("{} asked again: {status} {id}, not {:?}", entry.key, entry.ids));
            } else if run["result"] != entry.result || run["revision"] != 1 {
                findings.wrong += 1;
                findings.say(format!("{} has another result now: {run}", entry.key));
            }
        }
    }
}

/// The ids of all runs of a pool.
async fn listed(pool: &Pool) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let (status, page) = pool.get(&format!("/v1/runs?limit=200{cursor}")).await;
        assert_eq!(status, 200, "{page}");
        let items = page["items"].as_array().expect("a page");
        ids.extend(items.iter().filter_map(|run| run["id"].as_str()).map(str::to_owned));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return ids,
        }
    }
}
