//! The words for decisions. The page looks for some of them (see the tests), people read all.

use std::fmt;

use super::{Choice, Fate, Note};
use crate::WorkerStanding;
use crate::credibility::Why;
use crate::discord::{DIVISIONS_MIN, WINDOW};
use crate::kin::Kin;
use crate::placement::Bar;
use vocabulary::id::WorkerId;
use vocabulary::result::FailReason;

/// Milliseconds of a time in microseconds, to a tenth.
struct Ms(u64);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} ms", self.0 / 1_000, self.0 % 1_000 / 100)
    }
}

/// Names joined by commas.
struct Names<'a>(&'a [WorkerId]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, worker) in self.0.iter().enumerate() {
            write!(f, "{}{worker}", if position > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Submitted { ahead, free, active } => {
                write!(f, "queued behind {ahead} runs; {free} of {active} active workers have a free slot")
            }
            Note::ModuleAwaited => f.write_str("waits until its module is compiled"),
            Note::Recovered { attempts } => {
                write!(
                    f,
                    "taken up again after a restart of the coordinator, with {attempts} earlier attempts"
                )
            }
            Note::Held { workers, wait_ms } => {
                write!(
                    f,
                    "is not handed out for up to {wait_ms} ms: {workers} workers of before the restart may come \
                     back with its attempts"
                )
            }
            Note::GraceOver { early: true } => {
                f.write_str("all workers of before the restart are back: what is missing is handed out")
            }
            Note::GraceOver { early: false } => f.write_str(
                "the grace after the restart is over: what nobody came back with is handed out again",
            ),
            Note::Kept(text) => f.write_str(text),
            Note::Assigned { number, worker, choice, credits, voter, voters } => {
                write!(f, "attempt {number} goes to {worker}, ")?;
                match choice {
                    Choice::Loaded => f.write_str("which executed the module lately")?,
                    Choice::Roomiest => write!(f, "which has room for the most attempts ({credits})")?,
                    Choice::Decides => {
                        f.write_str("drawn by lot among those whose agreement would decide")?
                    }
                    Choice::Drawn => f.write_str("drawn by lot")?,
                    Choice::Again => {
                        f.write_str("which held one before: no other free worker may have it")?
                    }
                }
                match *voters {
                    ..=1 => Ok(()),
                    voters if *voter > voters => write!(f, "; a voter more than {voters}"),
                    voters => write!(f, "; voter {voter} of {voters}"),
                }
            }
            Note::Voted { number, worker, result, cpu_us } => {
                write!(
                    f,
                    "{worker} voted for {} after {} of CPU time (attempt {number})",
                    result.short(),
                    Ms(*cpu_us)
                )
            }
            Note::Faulted { number, worker, fault, begun: true } => {
                write!(f, "attempt {number} on {worker} ended: {fault}")
            }
            Note::Faulted { number, worker, fault, begun: false } => {
                write!(f, "attempt {number} on {worker} ended before it had begun: {fault}")
            }
            Note::Serial { crashes, crashes_max } => {
                write!(
                    f,
                    "one attempt at a time from now on: it killed {crashes} of at most {crashes_max} runners"
                )
            }
            Note::Excluding { workers, wait_ms } => {
                write!(
                    f,
                    "the rerun avoids {}; it waits up to {wait_ms} ms for another worker",
                    Names(workers)
                )
            }
            Note::Claimers { workers, wait_ms } => write!(
                f,
                "avoids {}, which said too often of this module that its stack overflowed, in vain; waits up to {wait_ms} ms for \
                 others",
                Names(workers)
            ),
            Note::NoOther { barred, more } => no_other(barred, *more, f),
            Note::FreshWaitOver { wait_ms, busy, more } => {
                write!(f, "after {wait_ms} ms without a free worker that held none")?;
                if !busy.is_empty() {
                    write!(f, " ({}{} busy)", Names(busy), And(*more))?;
                }
                f.write_str(", the rerun may go to any")
            }
            Note::NobodySuits { lacks } => write!(f, "waits for a worker: none {lacks}"),
            Note::Short { wanted, there, wait_ms } => {
                write!(
                    f,
                    "{wanted} more voters are wanted and {there} are there; gives up after {wait_ms} ms of that"
                )
            }
            Note::Differ { votes, results } => {
                write!(
                    f,
                    "{votes} votes named {results} different results and none won: one more voter is asked"
                )
            }
            Note::OneMore { why, epsilon_ppb } => one_more(*why, *epsilon_ppb, f),
            Note::Vouched { worker, result, k_milli, error_ppb, epsilon_ppb, ppm } => {
                let (short, k, error, epsilon) =
                    (result.short(), k_milli / 1_000, Ppb(*error_ppb), Ppb(*epsilon_ppb));
                write!(
                    f,
                    "{short} is vouched for by {worker} alone: {k} confirmations make an error of {error}, and {epsilon} is \
                     allowed; the lottery, which asks a second voter {} times in a hundred, drew none",
                    Percent(*ppm)
                )
            }
            Note::Trusted { worker, result, error_ppb, epsilon_ppb } => {
                let (short, error, epsilon) = (result.short(), Ppb(*error_ppb), Ppb(*epsilon_ppb));
                write!(
                    f,
                    "{short} is vouched for by {worker} alone, an arbiter: that leaves an error of {error}, and {epsilon} \
                     is allowed"
                )
            }
            Note::Arbitrated { result, executions } => {
                write!(
                    f,
                    "the votes differed: arbiters, who are trusted, executed it {executions} times and named {} each time, \
                     and that decides, whatever the votes weigh",
                    result.short()
                )
            }
            Note::Upheld { result } => write!(
                f,
                "confirmed by the word of an arbiter, who is trusted: it executed it and named {} as before, whatever the votes \
                 weigh",
                result.short()
            ),
            Note::Weighed { error_ppb, epsilon_ppb } => {
                write!(
                    f,
                    "the votes leave an error of {}, and {} is allowed",
                    Ppb(*error_ppb),
                    Ppb(*epsilon_ppb)
                )
            }
            Note::Blamed { worker, fate } => fate.tell(*worker, f),
            Note::Divided { results, divisions } => write!(
                f,
                "trusted workers named {results} different results: two of them lie, or its module is not deterministic, which \
                 it is called if {DIVISIONS_MIN} of {WINDOW} runs that were compared go this way ({divisions} have so far)"
            ),
            Note::NobodyBlamed { why } => write!(f, "nobody is blamed: {why}"),
            Note::TrustLost { worker } => {
                write!(f, "{worker} lost its confirmations elsewhere: its vote weighs less here")
            }
            Note::Absolved { worker } => {
                write!(f, "{worker} had named it before: that it lost then is not held against it any more")
            }
            Note::TakenBack { worker, run } => write!(
                f,
                "its module gives different results: that {worker} lost in run {run} is not held against it any more"
            ),
            Note::Rehabilitated { worker } => {
                write!(f, "{worker} was quarantined for nothing else: it works again, with its standing")
            }
            Note::Hedged { number, worker, took_ms, slow_ms } => {
                write!(
                    f,
                    "attempt {number} on {worker} takes {took_ms} ms, and after {slow_ms} ms it is slow: a second one \
                     is handed out, and the first to vote is taken"
                )
            }
            Note::Reverifies { result, revision } => {
                write!(
                    f,
                    "{} (revision {revision}) rested on a worker that is not trusted any more: it is verified anew",
                    result.short()
                )
            }
            Note::Parked { most } => {
                let results = if *most == 1 { "result is" } else { "results are" };
                write!(
                    f,
                    "waits: at most {most} {results} verified anew at once, so that others get their turn"
                )
            }
            Note::Confirmed { revision } => write!(f, "confirmed: revision {revision} stays as it is"),
            Note::Corrected { revision } => write!(f, "corrected: this is revision {revision}"),
            Note::Follows { leader } => {
                write!(f, "run {leader} is equal to it and in flight: it waits for the result of that")
            }
            Note::Adrift { leader, keep_together: true } => {
                write!(
                    f,
                    "run {leader}, for which it waited, ended early: those that waited go on without it"
                )
            }
            Note::Adrift { leader, keep_together: false } => {
                write!(f, "run {leader}, for which it waited, gave no result: it is executed by itself")
            }
            Note::Shared { leader, outcome } => {
                write!(f, "accepted: it shared the attempts of run {leader}, which {outcome}")
            }
            Note::Agreed { result, votes: 1, dissenters } if dissenters.is_empty() => {
                write!(f, "agreed: one vote more named {}", result.short())
            }
            Note::Agreed { result, votes, dissenters } if dissenters.is_empty() => {
                write!(f, "agreed: all {votes} votes named {}", result.short())
            }
            Note::Agreed { result, votes, dissenters } => {
                write!(f, "agreed: {votes} votes named {}, {} did not", result.short(), Names(dissenters))
            }
            Note::Unchecked { number, worker, result } => {
                write!(
                    f,
                    "takes {} from {worker} (attempt {number}) unchecked, as the policy says",
                    result.short()
                )
            }
            Note::Collecting { number, worker } => {
                write!(f, "collects the result from {worker} (attempt {number})")
            }
            Note::Undelivered { number, worker, fault } => {
                write!(f, "{worker} did not deliver the result of attempt {number}: {fault}")
            }
            Note::NobodyDelivers { result } => {
                write!(f, "none of its voters delivers {}: one more attempt", result.short())
            }
            Note::CollectsAnew => {
                f.write_str("blobs of the result are gone from the store: collects them anew")
            }
            Note::VoteDiscarded { number, worker, why } => {
                write!(f, "the vote of {worker} (attempt {number}) counts no more: {why}")
            }
            Note::Withdrawn { number, worker, why } => {
                write!(f, "attempt {number} was taken from {worker}: {why}")
            }
            Note::Turned { frame, votes } => {
                let class = frame.class.0.short();
                match frame.kin {
                    Kin::PortableCode => write!(
                        f,
                        "compares the votes of machine code {class} ({votes}): a stack overflowed, and where it does \
                         depends on the machine code"
                    ),
                    Kin::Portable => write!(
                        f,
                        "compares the votes of those whose stack did not overflow ({votes}, of class {class}), whatever \
                         machine code they execute"
                    ),
                    Kin::Native => write!(
                        f,
                        "compares the votes of class {class} ({votes}): those that are left of the class before could not \
                         decide it, or had no room"
                    ),
                }
            }
            Note::Idle { class, wait_ms } => write!(
                f,
                "for {wait_ms} ms nobody of class {} had room for it, to which its votes bind it: others are asked that have",
                class.0.short()
            ),
            Note::Returned { number, worker } => {
                write!(f, "{worker} came back and still holds attempt {number}")
            }
            Note::HandedBack { number, worker } => {
                write!(
                    f,
                    "{worker} handed attempt {number} back before it had begun: it is busy for longer than it thought"
                )
            }
            Note::Sign { number, worker, sign } => sign.tell(*number, *worker, f),
            Note::Stopped { number, worker } => {
                write!(f, "attempt {number} on {worker} was stopped: nobody needs it any more")
            }
            Note::Accepted { outcome } => write!(f, "accepted: it {outcome}"),
            Note::Failed { reason, why } => write!(f, "failed ({}): {why}", reason_words(*reason)),
            Note::Canceled => f.write_str("canceled on request"),
            Note::More(notes) => write!(f, "… {notes} more"),
        }
    }
}

/// How many more there are than were named.
struct And(usize);

impl fmt::Display for And {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 0 { write!(f, " and {} more", self.0) } else { Ok(()) }
    }
}

/// Why a rerun may go to a worker that held an attempt of the run: what keeps each of the others from it.
fn no_other(barred: &[(WorkerId, Bar)], more: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("the rerun may go to a worker that held an attempt: ")?;
    if barred.is_empty() {
        return f.write_str("there is no other");
    }
    f.write_str("no other may have it (")?;
    for (position, (worker, bar)) in barred.iter().enumerate() {
        let comma = if position > 0 { ", " } else { "" };
        let why = match bar {
            Bar::Seated => "has an attempt of it, or voted",
            Bar::Standing(WorkerStanding::Draining) => "is draining",
            Bar::Standing(WorkerStanding::Quarantined) => "is quarantined",
            // one that is suspect or active is not barred for it
            Bar::Standing(_) => "is lost",
            Bar::Memory => "has too little memory",
            Bar::Labels => "lacks its labels",
            Bar::Class => "is of another class",
            Bar::FewPeers => "has too few peers of its class",
            Bar::Arbiter => "is an arbiter, kept for disputes",
            Bar::NoArbiter => "is no arbiter",
            Bar::Domain => "is of a trust domain that has a voter",
        };
        write!(f, "{comma}{worker} {why}")?;
    }
    write!(f, "{})", And(more))
}

/// A probability in parts per billion, as 9.8e-4.
pub(crate) struct Ppb(pub(crate) u64);

impl fmt::Display for Ppb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(power) = self.0.checked_ilog10() else { return f.write_str("0") };
        // two digits that say something, rounded up: an error is never less than what is said
        let step = 10u64.pow(power.saturating_sub(1));
        let ppb = self.0.div_ceil(step) * step;
        let text = format!("{}.{:09}", ppb / 1_000_000_000, ppb % 1_000_000_000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// Parts per million as percent, to a hundredth.
struct Percent(u64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 10_000, self.0 % 10_000 / 100)
    }
}

/// How long before something else happened.
pub(crate) struct DaysBefore(pub(crate) u32);

impl fmt::Display for DaysBefore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("earlier the same day"),
            1 => f.write_str("the day before"),
            days => write!(f, "{days} days before"),
        }
    }
}

impl Fate {
    fn tell(self, worker: WorkerId, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fate::Suspect => {
                write!(f, "{worker} alone named another result: it loses its confirmations and is suspect")
            }
            Fate::Again { days } => {
                write!(
                    f,
                    "{worker} alone named another result, as it did {}: it is quarantined",
                    DaysBefore(days)
                )
            }
            Fate::Colluded { with } => {
                write!(
                    f,
                    "{worker} and {with} more named the very same wrong result, which is no accident: it is quarantined"
                )
            }
        }
    }
}

fn one_more(why: Why, epsilon_ppb: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let epsilon = Ppb(epsilon_ppb);
    match why {
        Why::First => f.write_str("a first voter is asked"),
        Why::Short { error_ppb } => {
            let error = Ppb(error_ppb);
            write!(f, "one more voter is asked: the error would be {error}, and {epsilon} is allowed")
        }
        Why::Newcomers { k_milli } => {
            let k = k_milli / 1_000;
            write!(f, "one more voter is asked: with {k} confirmations a newcomer never stands alone")
        }
        Why::Audit { k_milli, ppm } => {
            let (k, percent) = (k_milli / 1_000, Percent(ppm));
            write!(
                f,
                "one more voter is asked: the audit lottery drew it, as {percent} times in a hundred at {k} confirmations"
            )
        }
        Why::ArbiterAudit => {
            f.write_str("an arbiter is asked: the audit lottery drew it, as once in a hundred")
        }
        Why::ArbiterForNewcomers => f.write_str("an arbiter is asked: the voters are newcomers, all of them"),
        Why::Differ { results, error_ppb } => {
            let error = Ppb(error_ppb);
            write!(
                f,
                "one more voter is asked: the votes name {results} results, the best with an error of {error}, and \
                 {epsilon} is allowed"
            )
        }
        Why::Arbitrate { again: false } => f.write_str("an arbiter is asked: the votes differ"),
        Why::Arbitrate { again: true } => {
            f.write_str("an arbiter is asked once more: whether trusted executions agree with each other")
        }
        Why::Reverify => f.write_str("a voter that is trusted is asked, to verify it anew"),
    }
}

fn reason_words(reason: FailReason) -> &'static str {
    match reason {
        FailReason::ExitCode => "exit code",
        FailReason::Trap => "trap",
        FailReason::OutOfFuel => "out of fuel",
        FailReason::OutputLimit => "output limit",
        FailReason::TimedOut => "timed out",
        FailReason::Crashed => "crashed",
        FailReason::Poisoned => "poisoned",
        FailReason::Lost => "lost",
        FailReason::NoQuorum => "no quorum",
        FailReason::Expired => "expired",
        FailReason::ModuleRefused => "module refused",
        FailReason::Nondeterministic => "nondeterministic",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vocabulary::digest::Digest;

    #[test]
    fn notes_are_sentences_with_names_and_figures() {
        let assigned = Note::Assigned {
            number: 2,
            worker: WorkerId(3),
            choice: Choice::Roomiest,
            credits: 4,
            voter: 2,
            voters: 3,
        };
        assert_eq!(
            assigned.to_string(),
            "attempt 2 goes to w3, which has room for the most attempts (4); voter 2 of 3"
        );
        // the page shows from when on a run waited for its module: it looks for these words
        assert_eq!(Note::ModuleAwaited.to_string(), "waits until its module is compiled");
        // and by which figures it was decided: it takes them from these two
        let weighed = Note::Weighed { error_ppb: 250_000, epsilon_ppb: 1_000_000 };
        assert_eq!(weighed.to_string(), "the votes leave an error of 0.00025, and 0.001 is allowed");
        let vouched = Note::Vouched {
            worker: WorkerId(3),
            result: Digest::EMPTY,
            k_milli: 213_400,
            error_ppb: 460_000,
            epsilon_ppb: 1_000_000,
            ppm: 61_000,
        };
        assert_eq!(
            vouched.to_string(),
            "e3b0c442 is vouched for by w3 alone: 213 confirmations make an error of 0.00046, and 0.001 is allowed; the \
             lottery, which asks a second voter 6.10 times in a hundred, drew none"
        );
        let trusted = Note::Trusted {
            worker: WorkerId(4),
            result: Digest::EMPTY,
            error_ppb: 100_000,
            epsilon_ppb: 1_000_000,
        };
        assert_eq!(
            trusted.to_string(),
            "e3b0c442 is vouched for by w4 alone, an arbiter: that leaves an error of 0.0001, and 0.001 is allowed"
        );
        let told = [0, 1, 29].map(|days| {
            let fate = Fate::Again { days };
            Note::Blamed { worker: WorkerId(2), fate }.to_string()
        });
        let again =
            |when: &str| format!("w2 alone named another result, as it did {when}: it is quarantined");
        assert_eq!(told, ["earlier the same day", "the day before", "29 days before"].map(again));
        let voted = Note::Voted { number: 1, worker: WorkerId(1), result: Digest::EMPTY, cpu_us: 1_250 };
        assert_eq!(voted.to_string(), "w1 voted for e3b0c442 after 1.2 ms of CPU time (attempt 1)");
        let busy = Note::FreshWaitOver { wait_ms: 5_000, busy: vec![WorkerId(2)], more: 3 };
        assert_eq!(
            busy.to_string(),
            "after 5000 ms without a free worker that held none (w2 and 3 more busy), the rerun may go to any"
        );
        let excluding = Note::Excluding { workers: vec![WorkerId(1), WorkerId(2)], wait_ms: 5_000 };
        assert_eq!(
            excluding.to_string(),
            "the rerun avoids w1, w2; it waits up to 5000 ms for another worker"
        );
    }
}
