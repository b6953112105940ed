//! What two workers must have in common before their votes are compared.
//!
//! Invariant: a class is the digest of everything in its [`ClassInputs`], and of what the worker answered to the golden
//! corpus ([`super::corpus`]): a machine that computes otherwise, for whatever reason, is of another class.

use serde::{Deserialize, Serialize};

use super::engine::{self, ENGINE_VERSION, policy};
use super::{SandboxError, Variant, compatibility};
use vocabulary::class::{ClassInputs, Classes, Portable};
use vocabulary::digest::Digest;
use vocabulary::spec::{Profile, canonical_json};

/// What a machine answered to the golden corpus: digests of the results of its cases.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Answers {
    /// All cases under `det-1`.
    pub native: Digest,
    /// Those under `det-1-portable` whose results are the same everywhere.
    pub portable: Digest,
    /// The others under `det-1-portable`: how deep a stack is.
    pub stack: Digest,
}

/// What the classes of one worker are made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassParts {
    /// Of `det-1`: the same machine code. Covers everything that the worker computes, so evidence belongs to it.
    pub native: ClassInputs,
    /// Of `det-1-portable`: the same results.
    pub portable: ClassInputs,
    /// Of `det-1-portable`: the same machine code too.
    pub portable_code: ClassInputs,
}

impl ClassParts {
    /// Those of this build on a machine that answered so.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Engine`] if the engine cannot be built here.
    pub fn of_this_machine(answers: &Answers) -> Result<ClassParts, SandboxError> {
        let inputs = |profile, corpus| ClassInputs {
            build: env!("CARGO_PKG_VERSION").to_owned(),
            engine: ENGINE_VERSION.to_owned(),
            policy: policy(profile).to_owned(),
            corpus,
            target: None,
            cpu: None,
            engines: None,
        };
        let code = |plain, fueled, corpus| -> Result<ClassInputs, SandboxError> {
            let cpu = engine::level(plain).flags().iter().map(|flag| (*flag).to_owned()).collect();
            Ok(ClassInputs {
                target: Some(engine::target()),
                cpu: Some(cpu),
                engines: Some([compatibility(plain)?, compatibility(fueled)?]),
                ..inputs(plain.profile(), corpus)
            })
        };
        let all = |answers: &[Digest]| Digest::of(&canonical_json(&answers));
        Ok(ClassParts {
            native: code(
                Variant::Plain,
                Variant::Fueled,
                all(&[answers.native, answers.portable, answers.stack]),
            )?,
            portable: inputs(Profile::Det1Portable, all(&[answers.portable])),
            portable_code: code(
                Variant::Portable,
                Variant::PortableFueled,
                all(&[answers.portable, answers.stack]),
            )?,
        })
    }

    /// The classes.
    pub fn classes(&self) -> Classes {
        let portable = Portable { results: self.portable.class(), code: self.portable_code.class() };
        Classes { native: self.native.class(), portable }
    }

    /// Those of a machine that gave other answers: to play another build.
    #[must_use]
    pub fn as_another_build(mut self, number: u32) -> ClassParts {
        for inputs in [&mut self.native, &mut self.portable, &mut self.portable_code] {
            inputs.corpus = Digest::of(&canonical_json(&(inputs.corpus, number)));
        }
        self
    }

    /// Those of a machine whose CPU has one more feature: to play another CPU.
    #[must_use]
    pub fn as_another_cpu(mut self, number: u32) -> ClassParts {
        self.native.cpu.get_or_insert_default().push(format!("played_{number}"));
        self
    }

    /// Each, to be told to others.
    pub fn all(&self) -> Vec<ClassInputs> {
        vec![self.native.clone(), self.portable.clone(), self.portable_code.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERS: Answers = Answers { native: Digest::EMPTY, portable: Digest::EMPTY, stack: Digest::EMPTY };

    #[test]
    fn a_class_depends_on_each_of_its_inputs() {
        let here = ClassParts::of_this_machine(&ANSWERS).unwrap().native;
        let mut others = vec![here.clone(); 8];
        others[0].build = "0".into();
        others[1].engine = "0".into();
        others[2].policy = "0".into();
        others[3].target = Some("0".into());
        others[4].cpu = Some(vec!["0".into()]);
        others[5].engines.as_mut().unwrap()[1] = Digest::EMPTY;
        others[6].corpus = Digest::EMPTY;
        others[7].target = None;
        let classes: std::collections::BTreeSet<_> =
            others.iter().chain([&here]).map(ClassInputs::class).collect();
        assert_eq!(classes.len(), 9);
        assert_eq!(here, ClassParts::of_this_machine(&ANSWERS).unwrap().native);
        let text = serde_json::to_string(&here).unwrap();
        assert_eq!(serde_json::from_str::<ClassInputs>(&text).unwrap(), here);
    }

    #[test]
    fn an_answer_moves_the_classes_that_it_is_about() {
        let of = |answers: Answers| ClassParts::of_this_machine(&answers).unwrap().classes();
        let (here, other) = (of(ANSWERS), Digest::of(b"other"));
        let moved = |answers| {
            let there = of(answers);
            let (before, after) = (here.portable, there.portable);
            (here.native != there.native, before.results != after.results, before.code != after.code)
        };
        assert_eq!(moved(ANSWERS), (false, false, false));
        assert_eq!(moved(Answers { native: other, ..ANSWERS }), (true, false, false));
        assert_eq!(moved(Answers { stack: other, ..ANSWERS }), (true, false, true));
        assert_eq!(moved(Answers { portable: other, ..ANSWERS }), (true, true, true));
    }

    #[test]
    fn the_class_of_portable_results_names_no_machine() {
        let parts = ClassParts::of_this_machine(&ANSWERS).unwrap();
        let text = serde_json::to_string(&parts.portable).unwrap();
        assert!(!text.contains(std::env::consts::ARCH) && !text.contains("has_"), "{text}");
        assert_eq!(parts.portable_code.cpu, Some(Vec::new()), "no CPU features beyond the base");
        assert!(parts.portable_code.target.unwrap().contains(std::env::consts::ARCH));
    }
}
