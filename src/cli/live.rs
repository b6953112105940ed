//! Which bytes of the live output are shown. Pure: events in, bytes and notes out.
//!
//! Several attempts may write at once, so one is followed at a time. When it meets a fault, another voter that is not
//! yet further than what was shown is followed from there on (its output is the same, or the end will tell); a rerun
//! starts anew, and says so. What was shown is hashed, so that the end can be held against the verified output.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::digest::{Digest, Hasher};
use crate::protocol::api::{AttemptStateName, LiveOutput, Run, StreamName};

/// What has been shown of one stream.
#[derive(Clone, Default)]
pub struct Shown {
    hasher: Hasher,
}

impl Shown {
    /// How many bytes.
    pub fn size(&self) -> u64 {
        self.hasher.size()
    }

    /// Their digest.
    pub fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }
}

/// Follows the live output of one run.
#[derive(Default)]
pub struct Live {
    followed: Option<u32>,
    stdout: Shown,
    stderr: Shown,
}

/// What to do with one event.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct Show {
    /// To be said first.
    pub note: Option<String>,
    /// To be shown then.
    pub bytes: Vec<u8>,
}

impl Live {
    /// What has been shown of a stream.
    pub fn shown(&self, stream: StreamName) -> &Shown {
        match stream {
            StreamName::Stdout => &self.stdout,
            StreamName::Stderr => &self.stderr,
        }
    }

    fn shown_mut(&mut self, stream: StreamName) -> &mut Shown {
        match stream {
            StreamName::Stdout => &mut self.stdout,
            StreamName::Stderr => &mut self.stderr,
        }
    }

    /// An attempt wrote something.
    pub fn output(&mut self, output: &LiveOutput) -> Show {
        let mut show = Show::default();
        match self.followed {
            Some(attempt) if attempt != output.attempt => return show,
            Some(_) => {}
            None => {
                let anything = self.stdout.size() + self.stderr.size() > 0;
                if output.offset == 0 && anything {
                    let number = output.attempt;
                    show.note =
                        Some(format!("the output starts anew with attempt {number} (live, not verified)"));
                    (self.stdout, self.stderr) = (Shown::default(), Shown::default());
                }
                self.followed = Some(output.attempt);
            }
        }
        let bytes = match (&output.text, &output.base64) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(base64)) => BASE64.decode(base64).unwrap_or_default(),
            (None, None) => Vec::new(),
        };
        let shown = self.shown_mut(output.stream);
        // What lies before was shown already. A gap (a slow reader is skipped) is not bridged: the end fills it in.
        let known = shown.size().checked_sub(output.offset).and_then(|known| usize::try_from(known).ok());
        if let Some(new) = known.and_then(|known| bytes.get(known..)) {
            shown.hasher.update(new);
            show.bytes = new.to_vec();
        }
        show
    }

    /// The run changed: a note if the followed attempt came to nothing.
    pub fn changed(&mut self, run: &Run) -> Option<String> {
        let attempt = run.attempts.iter().find(|attempt| Some(attempt.number) == self.followed)?;
        if !matches!(attempt.state, AttemptStateName::Faulted | AttemptStateName::Canceled) {
            return None;
        }
        self.followed = None;
        let fault = attempt.fault.as_ref()?;
        Some(format!("attempt {} on {} is void: {fault}", attempt.number, attempt.worker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sample;
    use crate::result::Fault;

    fn output(attempt: u32, offset: u64, text: &str) -> LiveOutput {
        let text = Some(text.to_owned());
        LiveOutput { attempt, stream: StreamName::Stdout, offset, text, base64: None, verified: false }
    }

    fn shown(live: &mut Live, attempt: u32, offset: u64, text: &str) -> String {
        let show = live.output(&output(attempt, offset, text));
        assert_eq!(show.note, None);
        String::from_utf8(show.bytes).unwrap()
    }

    fn fault_of(live: &mut Live, number: u32) -> Option<String> {
        let mut run = sample::run();
        run.attempts[0].number = number;
        run.attempts[0].state = AttemptStateName::Faulted;
        run.attempts[0].fault = Some(Fault::TimedOut);
        live.changed(&run)
    }

    #[test]
    fn one_attempt_is_followed_and_nothing_is_shown_twice() {
        let mut live = Live::default();
        assert_eq!(shown(&mut live, 1, 0, "abc"), "abc");
        assert_eq!(shown(&mut live, 2, 0, "abcdef"), "");
        assert_eq!(shown(&mut live, 1, 1, "bcd"), "d");
        assert_eq!(live.shown(StreamName::Stdout).digest(), Digest::of(b"abcd"));
    }

    #[test]
    fn another_voter_goes_on_where_the_faulted_one_was() {
        let mut live = Live::default();
        assert_eq!(shown(&mut live, 1, 0, "abc"), "abc");
        let note = fault_of(&mut live, 1).unwrap();
        assert_eq!(note, "attempt 1 on w1 is void: it reached its timeout and was killed");
        assert_eq!(shown(&mut live, 2, 2, "cd"), "d");
    }

    #[test]
    fn a_rerun_starts_anew_and_says_so() {
        let mut live = Live::default();
        assert_eq!(shown(&mut live, 1, 0, "abc"), "abc");
        assert!(fault_of(&mut live, 1).is_some());
        let show = live.output(&output(3, 0, "ab"));
        assert_eq!(show.note.as_deref(), Some("the output starts anew with attempt 3 (live, not verified)"));
        assert_eq!(show.bytes, b"ab");
        assert_eq!(live.shown(StreamName::Stdout).size(), 2);
    }

    #[test]
    fn a_gap_is_left_for_the_end() {
        let mut live = Live::default();
        assert_eq!(shown(&mut live, 1, 0, "abc"), "abc");
        assert_eq!(shown(&mut live, 1, 5, "fg"), "");
        assert_eq!(shown(&mut live, 1, 7, "h"), "");
        assert_eq!(live.shown(StreamName::Stdout).size(), 3);
    }

    #[test]
    fn a_fault_of_another_attempt_changes_nothing() {
        let mut live = Live::default();
        assert_eq!(shown(&mut live, 1, 0, "abc"), "abc");
        assert_eq!(fault_of(&mut live, 2), None);
        assert_eq!(shown(&mut live, 1, 3, "d"), "d");
    }
}
