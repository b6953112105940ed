//! What may go wrong.

use crate::rng::Rng;

/// What may go wrong in a world; each seed leaves some of it out, because a mix of everything hides what a few make.
#[derive(Default, Debug)]
pub struct Features {
    pub crashes: bool,
    pub hangs: bool,
    pub lies: bool,
    pub refuses: bool,
    pub slow: bool,
    pub keeps_nothing: bool,
    pub deaf: bool,
    pub kills: bool,
    pub cuts: bool,
    pub freezes: bool,
    pub restarts: bool,
    pub blocks: bool,
    pub hides: bool,
    pub corrupts: bool,
    pub refused_writes: bool,
    pub cancels: bool,
    pub quarantines: bool,
    pub drains: bool,
    pub deadlines: bool,
    pub in_memory: bool,
    pub tried_once: bool,
    pub labels: bool,
    pub domains: bool,
    pub classes: bool,
    pub killer_modules: bool,
    pub late_modules: bool,
    pub large_quorums: bool,
    pub inline_results: bool,
    pub tight_memory: bool,
    pub adaptive: bool,
    pub colludes: bool,
    pub arbiters: bool,
    pub erratic_modules: bool,
    pub sharing: bool,
    /// The same is submitted again, often at once.
    pub repeats: bool,
    /// Workers hand back what they have not begun.
    pub returns: bool,
    /// An operator takes modules out of service and lets them in again.
    pub module_orders: bool,
    /// Some of what is broken stays so for ever.
    pub lasting: bool,
    /// Little may be queued, shared or verified anew at once.
    pub small_bounds: bool,
    /// Runs that are compared over different machine code, which differs in where a stack ends.
    pub portable: bool,
    /// Second attempts of slow ones cost next to nothing.
    pub eager_hedges: bool,
    /// Not drawn: attempts take their time and all of it.
    pub long: bool,
}

impl Features {
    pub fn drawn(rng: &mut Rng) -> Features {
        let mut draw = || rng.chance(45);
        let drawn = Features {
            crashes: draw(),
            hangs: draw(),
            lies: draw(),
            refuses: draw(),
            slow: draw(),
            keeps_nothing: draw(),
            deaf: draw(),
            kills: draw(),
            cuts: draw(),
            freezes: draw(),
            restarts: draw(),
            blocks: draw(),
            hides: draw(),
            corrupts: draw(),
            refused_writes: draw(),
            cancels: draw(),
            quarantines: draw(),
            drains: draw(),
            deadlines: draw(),
            in_memory: draw(),
            tried_once: draw(),
            labels: draw(),
            domains: draw(),
            classes: draw(),
            killer_modules: draw(),
            late_modules: draw(),
            large_quorums: draw(),
            inline_results: draw(),
            tight_memory: draw(),
            adaptive: draw(),
            colludes: draw(),
            arbiters: draw(),
            erratic_modules: draw(),
            sharing: draw(),
            repeats: draw(),
            returns: draw(),
            module_orders: draw(),
            lasting: draw(),
            small_bounds: draw(),
            eager_hedges: draw(),
            portable: draw(),
            long: false,
        };
        // among everything else that goes wrong, liars seldom come far enough to be caught, and their victims to be let in again
        if rng.chance(12) { drawn.only_liars() } else { drawn }
    }

    /// The same world in which nothing is wrong but what workers say, and who is there to tell.
    fn only_liars(self) -> Features {
        Features {
            lies: true,
            colludes: true,
            arbiters: self.arbiters,
            adaptive: self.adaptive,
            domains: self.domains,
            restarts: self.restarts,
            inline_results: self.inline_results,
            large_quorums: self.large_quorums,
            portable: self.portable,
            ..Features::default()
        }
    }

    /// Nothing but restarts of the coordinator, which every worker outlives.
    pub fn only_restarts() -> Features {
        Features { restarts: true, long: true, inline_results: true, ..Features::default() }
    }
}
