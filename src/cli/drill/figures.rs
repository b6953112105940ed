//! What came of a drill, as JSON and as a table.

use std::time::Duration;

use serde::Serialize;

use super::super::args::DrillArgs;

/// The figures of one drill.
#[derive(Debug, Default, Serialize)]
pub struct Figures {
    /// Worker processes.
    pub workers: u32,
    /// How many of them lie.
    pub liars: u64,
    /// In what way.
    pub behaviour: &'static str,
    /// How often, in percent.
    pub rate_percent: String,
    /// How results were verified.
    pub policy: String,
    /// Arbiters beside the workers.
    pub arbiters: u32,
    /// What decided who lies.
    pub seed: u64,
    /// Runs that were submitted.
    pub runs: u64,
    /// Of these, such as ended without a result, or were refused because too few workers were left.
    pub no_verdict: u64,
    /// Results that were wrong when their caller heard them.
    pub wrong_exposed: u64,
    /// Results that are wrong at the end.
    pub wrong_after_repair: u64,
    /// Liars that are out.
    pub liars_caught: u64,
    /// Finals by the time that the last of them was out.
    pub last_caught_after: Option<u64>,
    /// Honest workers that are out or suspect.
    pub honest_blamed: u64,
    /// Attempts of ordinary workers.
    pub attempts: u64,
    /// Attempts of arbiters.
    pub arbiter_attempts: u64,
    /// What was verified anew, where the server does that.
    pub verified_anew: Option<Anew>,
    /// From the first submission to the last final, in seconds.
    pub seconds: f64,
}

/// What was verified anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Anew {
    /// Results that rested on somebody who was caught.
    pub results: u64,
    /// Of these, such as were wrong and are corrected.
    pub corrected: u64,
    /// Whether it came to its end while it was waited for.
    pub is_done: bool,
}

impl Figures {
    /// The head of a drill's figures.
    pub fn of(args: &DrillArgs, liars: usize) -> Figures {
        Figures {
            workers: args.workers,
            liars: liars as u64,
            behaviour: args.behaviour.name(),
            rate_percent: args.rate.to_string(),
            policy: args.policy.to_string(),
            arbiters: args.arbiters,
            seed: args.seed,
            runs: args.runs,
            ..Figures::default()
        }
    }

    /// How long the runs took.
    pub fn took(&mut self, time: Duration) {
        self.seconds = (time.as_secs_f64() * 1_000.0).round() / 1_000.0;
    }

    /// One more liar is out, after so many finals.
    pub fn caught(&mut self, after: u64) {
        self.liars_caught += 1;
        self.last_caught_after = self.last_caught_after.max(Some(after));
    }

    fn per_run(&self, count: u64) -> f64 {
        count as f64 / self.runs.max(1) as f64
    }

    /// One figure a line.
    pub fn table(&self) -> String {
        let percent = |count: u64| format!("{:.2} %", self.per_run(count) * 100.0);
        let caught = match self.last_caught_after {
            Some(after) => format!("{} of {}, the last after {after} runs", self.liars_caught, self.liars),
            None => format!("{} of {}", self.liars_caught, self.liars),
        };
        let anew = match self.verified_anew {
            None => "-".to_owned(),
            Some(anew) => {
                let end = if anew.is_done { "" } else { "; it goes on" };
                format!(
                    "{} ({} of the runs), {} corrected{end}",
                    anew.results,
                    percent(anew.results),
                    anew.corrected
                )
            }
        };
        let rows = [
            ("workers", format!("{}, and {} arbiters", self.workers, self.arbiters)),
            (
                "liars",
                format!("{}, {} in {} % of what they do", self.liars, self.behaviour, self.rate_percent),
            ),
            ("runs", format!("{} under `{}`, seed {}", self.runs, self.policy, self.seed)),
            ("without a verdict", self.no_verdict.to_string()),
            ("wrong results exposed", format!("{} ({})", self.wrong_exposed, percent(self.wrong_exposed))),
            ("wrong after repair", self.wrong_after_repair.to_string()),
            ("liars caught", caught),
            ("honest workers blamed", self.honest_blamed.to_string()),
            ("attempts per run", format!("{:.3}", self.per_run(self.attempts))),
            ("arbiters' share", format!("{} of the runs", percent(self.arbiter_attempts))),
            ("verified anew", anew),
            (
                "time",
                format!(
                    "{:.1} s, {:.0} runs a second",
                    self.seconds,
                    self.runs as f64 / self.seconds.max(0.001)
                ),
            ),
        ];
        rows.into_iter().map(|(name, value)| format!("{name:<23}{value}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_was_counted() {
        let mut figures = Figures {
            workers: 10,
            arbiters: 1,
            liars: 2,
            behaviour: "colluding",
            rate_percent: "10".to_owned(),
            policy: "standard".to_owned(),
            seed: 7,
            runs: 200,
            attempts: 250,
            arbiter_attempts: 3,
            wrong_exposed: 1,
            ..Figures::default()
        };
        figures.took(Duration::from_millis(2_000));
        figures.caught(40);
        figures.caught(31);
        let table = figures.table();
        for line in [
            "liars                  2, colluding in 10 % of what they do\n",
            "wrong results exposed  1 (0.50 %)\n",
            "liars caught           2 of 2, the last after 40 runs\n",
            "attempts per run       1.250\n",
            "arbiters' share        1.50 % of the runs\n",
            "verified anew          -\n",
            "time                   2.0 s, 100 runs a second\n",
        ] {
            assert!(table.contains(line), "{line}{table}");
        }
        figures.verified_anew = Some(Anew { results: 4, corrected: 1, is_done: true });
        assert!(figures.table().contains("4 (2.00 % of the runs), 1 corrected\n"), "{}", figures.table());
    }
}
