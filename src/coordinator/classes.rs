//! What the classes are made of that workers have told of.
//!
//! Invariant: what is found under a class hashes to it. Bounded: a crowd of workers that each name a class of their own pushes
//! out what was told before, never what this machine is. For people and receipts; nothing is decided by it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::class::ClassInputs;
use crate::digest::Digest;

/// Classes that are remembered beside this machine's own.
const TOLD_MAX: usize = 1_024;

/// See the module.
#[derive(Debug, Default)]
pub struct ClassBook {
    own: BTreeMap<Digest, ClassInputs>,
    told: Mutex<BTreeMap<Digest, ClassInputs>>,
}

impl ClassBook {
    /// One that knows this machine's.
    pub fn of(own: Vec<ClassInputs>) -> ClassBook {
        let own = own.into_iter().map(|inputs| (inputs.class().0, inputs)).collect();
        ClassBook { own, told: Mutex::default() }
    }

    /// A worker of the class `named` told of it; what does not hash to it is not taken.
    pub fn learn(&self, named: &[Digest], told: Vec<ClassInputs>) {
        for inputs in told {
            let class = inputs.class().0;
            if !named.contains(&class) || self.own.contains_key(&class) {
                continue;
            }
            let mut known = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= TOLD_MAX {
                known.clear();
            }
            known.insert(class, inputs);
        }
    }

    /// What a class is made of, if anybody told.
    pub fn get(&self, class: Digest) -> Option<ClassInputs> {
        let told = || self.told.lock().unwrap_or_else(PoisonError::into_inner).get(&class).cloned();
        self.own.get(&class).cloned().or_else(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(build: &str) -> ClassInputs {
        ClassInputs {
            build: build.to_owned(),
            engine: "engine 1".to_owned(),
            policy: "det-1.0".to_owned(),
            corpus: Digest::EMPTY,
            target: None,
            cpu: None,
            engines: None,
        }
    }

    #[test]
    fn only_what_hashes_to_a_class_that_was_named_is_remembered() {
        let book = ClassBook::of(vec![inputs("own")]);
        let (honest, forged) = (inputs("1"), inputs("2"));
        book.learn(&[honest.class().0], vec![honest.clone(), forged.clone()]);
        assert_eq!(book.get(honest.class().0), Some(honest));
        assert_eq!(book.get(forged.class().0), None);
        for number in 0..2 * TOLD_MAX {
            let one = inputs(&format!("build {number}"));
            book.learn(&[one.class().0], vec![one]);
        }
        assert!(book.told.lock().unwrap().len() <= TOLD_MAX);
        assert_eq!(book.get(inputs("own").class().0), Some(inputs("own")));
    }
}
