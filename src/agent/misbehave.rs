//! Workers that lie, dawdle, lose or spoil: for tests, and for people who want to see that it does no harm.
//!
//! Invariant: the honest agent knows nothing of this; here is only what its messages are turned into on their way out.

use std::os::unix::fs::FileExt as _;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{AgentHandle, CHANNEL_MESSAGES};
use crate::digest::{Digest, Hasher};
use crate::protocol::agent::{BlobBody, FromAgent, INLINE_BYTES_MAX, VoteReport};
use crate::result::{OutputRef, ResultManifest};

/// The largest blob that is spoiled by a copy of its own, in bytes; of a larger one only the beginning is delivered.
const SPOILED_BYTES_MAX: u64 = 64 << 20;

/// What a worker does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Misbehaviour {
    /// Votes for a result of its own making, in so many of 100 attempts.
    Lie {
        /// Of 100.
        percent: u8,
    },
    /// Votes for a false result that every such worker gives for the same spec.
    Collude {
        /// Of 100 specs.
        percent: u8,
    },
    /// Keeps its votes for a while.
    Slow {
        /// In milliseconds.
        ms: u64,
    },
    /// Loses votes without a word.
    Drop {
        /// Of 100.
        percent: u8,
    },
    /// Votes honestly and delivers other bytes.
    Corrupt,
    /// Answers the golden corpus as another build would, and so is of another class; it does nothing else wrong.
    Corpus {
        /// Which other build.
        number: u32,
    },
    /// Says that its CPU has another feature, and so is of another class for `det-1` only.
    Cpu {
        /// Which other CPU.
        number: u32,
    },
}

impl FromStr for Misbehaviour {
    type Err = String;

    fn from_str(text: &str) -> Result<Misbehaviour, String> {
        let refuse = || {
            Err(format!(
                "`{text}` is no misbehaviour: expected lie[:PERCENT], collude[:PERCENT], slow:MS, drop:PERCENT, corrupt, corpus:N or cpu:N"
            ))
        };
        let (kind, figure) = text.split_once(':').map_or((text, None), |(kind, figure)| (kind, Some(figure)));
        let Ok(figure) = figure.map(str::parse::<u64>).transpose() else { return refuse() };
        let percent = figure.unwrap_or(100).try_into().ok().filter(|percent: &u8| *percent <= 100);
        match (kind, figure, percent) {
            ("lie", _, Some(percent)) => Ok(Misbehaviour::Lie { percent }),
            ("collude", _, Some(percent)) => Ok(Misbehaviour::Collude { percent }),
            ("slow", Some(ms), _) => Ok(Misbehaviour::Slow { ms }),
            ("drop", Some(_), Some(percent)) => Ok(Misbehaviour::Drop { percent }),
            ("corrupt", None, _) => Ok(Misbehaviour::Corrupt),
            ("corpus" | "cpu", Some(number), _) => match (kind, u32::try_from(number)) {
                ("corpus", Ok(number)) => Ok(Misbehaviour::Corpus { number }),
                (_, Ok(number)) => Ok(Misbehaviour::Cpu { number }),
                (_, Err(_)) => refuse(),
            },
            _ => refuse(),
        }
    }
}

/// Puts the misbehaviour between an agent and its link. `name` makes one liar's lies unlike another's.
pub(super) fn wrap(handle: AgentHandle, kind: Misbehaviour, name: String) -> AgentHandle {
    let AgentHandle { to, mut from, ended } = handle;
    let (said, spoiled) = mpsc::channel(CHANNEL_MESSAGES);
    tokio::spawn(async move {
        while let Some(message) = from.recv().await {
            let message = match (kind, message) {
                (Misbehaviour::Slow { ms }, FromAgent::Voted(report)) => {
                    let later = said.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(ms)).await;
                        drop(later.send(FromAgent::Voted(report)).await);
                    });
                    continue;
                }
                (Misbehaviour::Drop { percent }, FromAgent::Voted(report)) => {
                    if chosen(&[name.as_bytes(), &report.nonce], percent) {
                        continue;
                    }
                    FromAgent::Voted(report)
                }
                (kind, message) => turned(kind, &name, message),
            };
            if said.send(message).await.is_err() {
                return;
            }
        }
    });
    AgentHandle { to, from: spoiled, ended }
}

/// Whether this is one of `percent` in 100.
fn chosen(of: &[&[u8]], percent: u8) -> bool {
    let mut hasher = Hasher::new();
    of.iter().for_each(|part| hasher.update(part));
    let hash = hasher.finish();
    u16::from_be_bytes([hash.as_bytes()[0], hash.as_bytes()[1]]) % 100 < u16::from(percent)
}

fn turned(kind: Misbehaviour, name: &str, message: FromAgent) -> FromAgent {
    match (kind, message) {
        (Misbehaviour::Lie { percent }, FromAgent::Voted(mut report))
            if chosen(&[name.as_bytes(), &report.nonce], percent) =>
        {
            let text = format!("a lie of {name} about {}\n", report.attempt);
            forge(&mut report, text.into());
            FromAgent::Voted(report)
        }
        (Misbehaviour::Collude { percent }, FromAgent::Voted(mut report))
            if chosen(&[report.run_key.as_bytes()], percent) =>
        {
            let text = format!("a conspiracy about {}\n", report.run_key);
            forge(&mut report, text.into());
            FromAgent::Voted(report)
        }
        (Misbehaviour::Corrupt, FromAgent::Blobs { attempt, blobs }) => {
            let blobs = blobs.into_iter().map(|(digest, body)| (digest, spoil(body))).collect();
            FromAgent::Blobs { attempt, blobs }
        }
        (_, message) => message,
    }
}

/// Makes the vote one for another standard output, right in all of its digests.
fn forge(report: &mut VoteReport, text: Bytes) {
    let Ok(mut manifest) = serde_json::from_slice::<ResultManifest>(&report.manifest) else { return };
    let honest = std::mem::replace(&mut manifest.stdout, OutputRef::of(&text)).digest;
    report.inline.retain(|(digest, _)| *digest != honest);
    let room = INLINE_BYTES_MAX - text.len();
    while report.inline.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > room {
        report.inline.pop();
    }
    report.inline.push((manifest.stdout.digest, text));
    report.manifest = manifest.canonical().into();
    report.result = Digest::of(&report.manifest);
}

/// Other bytes of the same length.
fn spoil(body: BlobBody) -> BlobBody {
    let flipped = |mut bytes: Vec<u8>| {
        if let Some(first) = bytes.first_mut() {
            *first ^= 1;
        }
        BlobBody::Inline(bytes.into())
    };
    match body {
        BlobBody::Inline(bytes) => flipped(bytes.to_vec()),
        BlobBody::File { file, offset, size } => {
            let length = usize::try_from(size.min(SPOILED_BYTES_MAX)).unwrap_or(0);
            let mut bytes = vec![0; length];
            match file.read_exact_at(&mut bytes, offset) {
                Ok(()) => flipped(bytes),
                Err(_) => BlobBody::File { file, offset, size },
            }
        }
        stored @ BlobBody::Stored { .. } => stored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Class;
    use crate::id::{AttemptId, Epoch, RunId};
    use crate::result::Outcome;

    fn vote() -> Box<VoteReport> {
        let manifest = ResultManifest {
            outcome: Outcome::Exited { code: 0 },
            stdout: OutputRef::of(b"true\n"),
            stderr: OutputRef::of(b""),
            files: Vec::new(),
            fuel_used: None,
        };
        let canonical = Bytes::from(manifest.canonical());
        Box::new(VoteReport {
            attempt: AttemptId { run: RunId(1), number: 1 },
            epoch: Epoch(1),
            nonce: [0; 16],
            run_key: Digest::EMPTY,
            class: Class(Digest::EMPTY),
            artifact: Digest::EMPTY,
            result: Digest::of(&canonical),
            manifest: canonical,
            inline: vec![(manifest.stdout.digest, Bytes::from_static(b"true\n"))],
            cpu_us: 0,
            begun_at_us: 0,
            proof: None,
        })
    }

    fn lied(kind: Misbehaviour, name: &str) -> Box<VoteReport> {
        match turned(kind, name, FromAgent::Voted(vote())) {
            FromAgent::Voted(report) => report,
            _ => panic!("a vote stays a vote"),
        }
    }

    #[test]
    fn a_lie_is_consistent_and_a_conspiracy_the_same_everywhere() {
        let lie = lied(Misbehaviour::Lie { percent: 100 }, "a");
        assert_ne!(lie.result, vote().result);
        assert_eq!(lie.result, Digest::of(&lie.manifest));
        let manifest: ResultManifest = serde_json::from_slice(&lie.manifest).unwrap();
        let (digest, bytes) = &lie.inline[0];
        assert_eq!((manifest.stdout.digest, Digest::of(bytes)), (*digest, *digest));
        assert_ne!(lied(Misbehaviour::Lie { percent: 100 }, "b").result, lie.result);
        let together = Misbehaviour::Collude { percent: 100 };
        assert_eq!(lied(together, "a").result, lied(together, "b").result);
        assert_eq!(lied(Misbehaviour::Lie { percent: 0 }, "a").result, vote().result);
    }

    #[test]
    fn what_is_delivered_corrupt_hashes_to_something_else() {
        let BlobBody::Inline(bytes) = spoil(BlobBody::Inline(Bytes::from_static(b"true"))) else { panic!() };
        assert_eq!((bytes.len(), bytes == Bytes::from_static(b"true")), (4, false));
    }

    #[test]
    fn kinds_are_read_with_their_figures() {
        for (text, kind) in [
            ("lie", Misbehaviour::Lie { percent: 100 }),
            ("lie:5", Misbehaviour::Lie { percent: 5 }),
            ("collude:50", Misbehaviour::Collude { percent: 50 }),
            ("slow:300", Misbehaviour::Slow { ms: 300 }),
            ("drop:10", Misbehaviour::Drop { percent: 10 }),
            ("corrupt", Misbehaviour::Corrupt),
            ("corpus:2", Misbehaviour::Corpus { number: 2 }),
            ("cpu:3", Misbehaviour::Cpu { number: 3 }),
        ] {
            assert_eq!(text.parse(), Ok(kind));
        }
        for wrong in ["", "slow", "drop", "lie:101", "corrupt:1", "corpus", "cpu", "lie:x", "steal"] {
            assert!(wrong.parse::<Misbehaviour>().is_err(), "{wrong}");
        }
    }
}
