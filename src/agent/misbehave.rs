//! Workers that lie, dawdle, lose or spoil: for tests, and for people who want to see that it does no harm.
//!
//! Invariant: the honest agent knows nothing of this; here is only what its messages are turned into on their way out.

use std::fmt;
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

/// Certainty, in parts per million.
const ONE_PPM: u32 = 1_000_000;

/// How often something is done, of all times that it could be; a percentage as text, with up to four decimals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    ppm: u32,
}

impl Rate {
    /// Each time.
    pub const ALWAYS: Rate = Rate { ppm: ONE_PPM };
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        let digits = text.strip_suffix('%').unwrap_or(text);
        let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let ppm = match (is_number(whole) && is_number(decimals), decimals.len() <= 4) {
            (true, true) if whole.len() <= 3 => format!("{whole}{decimals:0<4}").parse().ok(),
            _ => None,
        };
        let ppm = ppm.filter(|ppm| *ppm <= ONE_PPM && !whole.is_empty());
        ppm.map(|ppm| Rate { ppm }).ok_or_else(|| format!("`{text}` is no percentage such as 10 or 0.01"))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.ppm / 10_000, format!("{:04}", self.ppm % 10_000));
        match rest.trim_end_matches('0') {
            "" => write!(f, "{whole}"),
            rest => write!(f, "{whole}.{rest}"),
        }
    }
}

/// What a worker does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Misbehaviour {
    /// Votes for a result of its own making.
    Lie {
        /// In so many of its attempts.
        rate: Rate,
    },
    /// Votes for a false result that every such worker gives for the same spec.
    Collude {
        /// For so many of the specs.
        rate: Rate,
    },
    /// Is honest for a while, and then does as [`Misbehaviour::Collude`].
    Sleep {
        /// Votes for which it is honest.
        votes: u64,
        /// For so many of the specs after that.
        rate: Rate,
    },
    /// Votes for what it last found in another run. It never sees what others name: that is shown when a run is final.
    Parrot {
        /// In so many of its attempts.
        rate: Rate,
    },
    /// One bit of what it found is another one, as bad memory has it.
    Flip {
        /// In so many of its attempts.
        rate: Rate,
    },
    /// Keeps its votes for a while.
    Slow {
        /// In milliseconds.
        ms: u64,
    },
    /// Loses votes without a word.
    Drop {
        /// So many of them.
        rate: Rate,
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
                "`{text}` is no misbehaviour: expected lie, collude, parrot or flip[:PERCENT], sleep:VOTES[:PERCENT], slow:MS, \
                 drop:PERCENT, corrupt, corpus:N or cpu:N"
            ))
        };
        let mut parts = text.split(':');
        let (kind, first, second) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        let rate = |text: Option<&str>| text.map_or(Ok(Rate::ALWAYS), str::parse::<Rate>);
        let number = first.and_then(|text| text.parse::<u64>().ok());
        if parts.next().is_some() || (second.is_some() && kind != "sleep") {
            return refuse();
        }
        match (kind, rate(first), number) {
            ("lie", Ok(rate), _) => Ok(Misbehaviour::Lie { rate }),
            ("collude", Ok(rate), _) => Ok(Misbehaviour::Collude { rate }),
            ("parrot", Ok(rate), _) => Ok(Misbehaviour::Parrot { rate }),
            ("flip", Ok(rate), _) => Ok(Misbehaviour::Flip { rate }),
            ("sleep", _, Some(votes)) => match rate(second) {
                Ok(rate) => Ok(Misbehaviour::Sleep { votes, rate }),
                Err(_) => refuse(),
            },
            ("slow", _, Some(ms)) => Ok(Misbehaviour::Slow { ms }),
            ("drop", Ok(rate), _) if first.is_some() => Ok(Misbehaviour::Drop { rate }),
            ("corrupt", ..) if first.is_none() => Ok(Misbehaviour::Corrupt),
            ("corpus" | "cpu", _, Some(number)) => match (kind, u32::try_from(number)) {
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
    let mut liar = Liar { kind, name, votes: 0, last: None };
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
                (Misbehaviour::Drop { rate }, FromAgent::Voted(report)) => {
                    if chosen(&[liar.name.as_bytes(), &report.nonce], rate) {
                        continue;
                    }
                    FromAgent::Voted(report)
                }
                (_, message) => liar.turned(message),
            };
            if said.send(message).await.is_err() {
                return;
            }
        }
    });
    AgentHandle { to, from: spoiled, ended }
}

/// Whether this is one of those that a rate chooses.
fn chosen(of: &[&[u8]], rate: Rate) -> bool {
    let mut hasher = Hasher::new();
    of.iter().for_each(|part| hasher.update(part));
    let hash = hasher.finish();
    let [a, b, c, d, ..] = *hash.as_bytes();
    (u64::from(u32::from_be_bytes([a, b, c, d])) * u64::from(ONE_PPM)) >> 32 < u64::from(rate.ppm)
}

/// Inline bytes of a vote.
type Inline = Vec<(Digest, Bytes)>;

/// Somebody who misbehaves, with what it remembers.
struct Liar {
    kind: Misbehaviour,
    name: String,
    /// Votes so far.
    votes: u64,
    /// Manifest and outputs that it found in the run before.
    last: Option<(Bytes, Inline)>,
}

impl Liar {
    fn turned(&mut self, message: FromAgent) -> FromAgent {
        match (self.kind, message) {
            (Misbehaviour::Corrupt, FromAgent::Blobs { attempt, blobs }) => {
                let blobs = blobs.into_iter().map(|(digest, body)| (digest, spoil(body))).collect();
                FromAgent::Blobs { attempt, blobs }
            }
            (_, FromAgent::Voted(mut report)) => {
                self.spoil_vote(&mut report);
                self.votes += 1;
                FromAgent::Voted(report)
            }
            (_, message) => message,
        }
    }

    fn spoil_vote(&mut self, report: &mut VoteReport) {
        let name = self.name.as_bytes();
        match self.kind {
            Misbehaviour::Lie { rate } if chosen(&[name, &report.nonce], rate) => {
                let text = format!("a lie of {} about {}\n", self.name, report.attempt);
                forge(report, text.into());
            }
            Misbehaviour::Collude { rate } if chosen(&[report.run_key.as_bytes()], rate) => conspire(report),
            Misbehaviour::Sleep { votes, rate }
                if self.votes >= votes && chosen(&[report.run_key.as_bytes()], rate) =>
            {
                conspire(report);
            }
            Misbehaviour::Flip { rate } if chosen(&[name, &report.nonce], rate) => flip(report),
            Misbehaviour::Parrot { rate } => {
                let found = (report.manifest.clone(), report.inline.clone());
                if let Some((manifest, inline)) = self.last.replace(found)
                    && chosen(&[name, &report.nonce], rate)
                {
                    report.result = Digest::of(&manifest);
                    (report.manifest, report.inline) = (manifest, inline);
                }
            }
            _ => {}
        }
    }
}

/// Names what every conspirator names.
fn conspire(report: &mut VoteReport) {
    let text = format!("a conspiracy about {}\n", report.run_key);
    forge(report, text.into());
}

/// Flips one bit of the standard output, which one by the attempt's nonce; of an empty one there is a byte too many.
fn flip(report: &mut VoteReport) {
    let Ok(manifest) = serde_json::from_slice::<ResultManifest>(&report.manifest) else { return };
    let found = report.inline.iter().find(|(digest, _)| *digest == manifest.stdout.digest);
    let mut bytes = found.map(|(_, bytes)| bytes.to_vec()).unwrap_or_default();
    let [a, b, c, d, ..] = report.nonce;
    let which = u32::from_be_bytes([a, b, c, d]) as usize;
    if bytes.is_empty() {
        bytes.push(0);
    }
    let at = which / 8 % bytes.len();
    bytes[at] ^= 1 << (which % 8);
    forge(report, bytes.into());
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

    fn liar(kind: &str, name: &str) -> Liar {
        Liar { kind: kind.parse().unwrap(), name: name.to_owned(), votes: 0, last: None }
    }

    fn said(liar: &mut Liar, report: Box<VoteReport>) -> Box<VoteReport> {
        match liar.turned(FromAgent::Voted(report)) {
            FromAgent::Voted(report) => report,
            _ => panic!("a vote stays a vote"),
        }
    }

    fn lied(kind: &str, name: &str) -> Box<VoteReport> {
        said(&mut liar(kind, name), vote())
    }

    /// Whether it is what an honest worker could have said, but for the truth.
    fn check_consistent(report: &VoteReport) {
        assert_eq!(report.result, Digest::of(&report.manifest));
        let manifest: ResultManifest = serde_json::from_slice(&report.manifest).unwrap();
        let (digest, bytes) = &report.inline[0];
        assert_eq!((manifest.stdout.digest, Digest::of(bytes)), (*digest, *digest));
    }

    #[test]
    fn a_lie_is_consistent_and_a_conspiracy_the_same_everywhere() {
        for kind in ["lie", "collude", "sleep:0", "flip"] {
            let lie = lied(kind, "a");
            assert_ne!(lie.result, vote().result, "{kind}");
            check_consistent(&lie);
        }
        assert_ne!(lied("lie", "a").result, lied("lie", "b").result);
        assert_eq!(lied("collude", "a").result, lied("collude", "b").result);
        assert_eq!(lied("lie:0", "a").result, vote().result);
        let empty = {
            let mut report = vote();
            report.inline.clear();
            said(&mut liar("flip", "a"), report)
        };
        check_consistent(&empty);
    }

    #[test]
    fn a_sleeper_is_honest_for_so_many_votes() {
        let mut sleeper = liar("sleep:2:100", "a");
        let lies: Vec<bool> = (0..4).map(|_| said(&mut sleeper, vote()).result != vote().result).collect();
        assert_eq!(lies, [false, false, true, true]);
    }

    #[test]
    fn a_parrot_says_what_it_found_before() {
        let mut parrot = liar("parrot", "a");
        let mut other = vote();
        forge(&mut other, "of another run\n".into());
        let found = other.result;
        assert_eq!(said(&mut parrot, other).result, found, "it has nothing to repeat yet");
        let second = said(&mut parrot, vote());
        assert_eq!(second.result, found);
        check_consistent(&second);
        assert_eq!(said(&mut parrot, vote()).result, vote().result, "what it found, not what it said");
    }

    #[test]
    fn a_rate_is_met() {
        for (text, about) in [("0", 0), ("0.5", 50), ("10", 1_000), ("100%", 10_000)] {
            let rate: Rate = text.parse().unwrap();
            let hits = (0..10_000u32).filter(|number| chosen(&[&number.to_be_bytes()], rate)).count();
            assert!(hits.abs_diff(about) <= 4 + about / 5, "{text}: {hits}");
        }
        for (text, shown) in [("0.01", "0.01"), ("100%", "100"), ("7", "7"), ("2.5", "2.5")] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), shown);
        }
        for wrong in ["", "%", ".5", "101", "100.0001", "1.00001", "-1", "x", "1e3"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_delivered_corrupt_hashes_to_something_else() {
        let BlobBody::Inline(bytes) = spoil(BlobBody::Inline(Bytes::from_static(b"true"))) else { panic!() };
        assert_eq!((bytes.len(), bytes == Bytes::from_static(b"true")), (4, false));
    }

    #[test]
    fn kinds_are_read_with_their_figures() {
        let rate = |text: &str| text.parse::<Rate>().unwrap();
        for (text, kind) in [
            ("lie", Misbehaviour::Lie { rate: Rate::ALWAYS }),
            ("lie:5", Misbehaviour::Lie { rate: rate("5") }),
            ("collude:50", Misbehaviour::Collude { rate: rate("50") }),
            ("sleep:30", Misbehaviour::Sleep { votes: 30, rate: Rate::ALWAYS }),
            ("sleep:30:10", Misbehaviour::Sleep { votes: 30, rate: rate("10") }),
            ("parrot", Misbehaviour::Parrot { rate: Rate::ALWAYS }),
            ("flip:0.01", Misbehaviour::Flip { rate: rate("0.01") }),
            ("slow:300", Misbehaviour::Slow { ms: 300 }),
            ("drop:10", Misbehaviour::Drop { rate: rate("10") }),
            ("corrupt", Misbehaviour::Corrupt),
            ("corpus:2", Misbehaviour::Corpus { number: 2 }),
            ("cpu:3", Misbehaviour::Cpu { number: 3 }),
        ] {
            assert_eq!(text.parse(), Ok(kind));
        }
        for wrong in [
            "",
            "slow",
            "drop",
            "sleep",
            "sleep:x",
            "sleep:1:2:3",
            "lie:101",
            "lie:1:2",
            "corrupt:1",
            "lie:x",
            "steal",
            "corpus",
            "cpu",
        ] {
            assert!(wrong.parse::<Misbehaviour>().is_err(), "{wrong}");
        }
    }
}
