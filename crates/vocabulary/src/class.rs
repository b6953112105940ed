//! Equivalence classes of workers, and what they are made of.
//!
//! Invariant: a class is the digest of the canonical JSON of its [`ClassInputs`]. Who makes them, and of what, is not known here.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::digest::Digest;
use crate::id::Class;
use crate::spec::{Profile, canonical_json};

/// The classes of a worker for the profile `det-1-portable`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Portable {
    /// Shared by workers that give the same results, whatever their CPUs and architectures are.
    pub results: Class,
    /// Shared by those of them that also execute the same machine code: only there do stacks overflow at the same depth.
    pub code: Class,
}

impl Portable {
    /// Of workers that all execute the same machine code.
    pub const fn alike(class: Class) -> Portable {
        Portable { results: class, code: class }
    }
}

/// All classes of a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Classes {
    /// For `det-1`: the same machine code. It covers everything that the worker computes.
    pub native: Class,
    /// For `det-1-portable`.
    pub portable: Portable,
}

impl Classes {
    /// Of workers that have everything in common.
    pub const fn alike(class: Class) -> Classes {
        Classes { native: class, portable: Portable::alike(class) }
    }

    /// The one in which it votes on runs of a profile.
    pub fn of(&self, profile: Profile) -> Class {
        match profile {
            Profile::Det1 => self.native,
            Profile::Det1Portable => self.portable.results,
        }
    }

    /// The one in which the machine code of a profile is the same.
    pub fn code(&self, profile: Profile) -> Class {
        match profile {
            Profile::Det1 => self.native,
            Profile::Det1Portable => self.portable.code,
        }
    }
}

/// What a class is made of.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ClassInputs {
    /// The build of Lockstep: the host functions are its own.
    pub build: String,
    /// The engine's version.
    pub engine: String,
    /// The switches' name.
    pub policy: String,
    /// Digest of the answers to the golden corpus.
    pub corpus: Digest,
    /// The target triple, where machine code must be the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub target: Option<String>,
    /// The fixed CPU feature list, where machine code must be the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub cpu: Option<Vec<String>>,
    /// What each engine's machine code is compatible with, without fuel and with it: covers every flag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub engines: Option<[Digest; 2]>,
}

impl ClassInputs {
    /// The class: the digest of the canonical JSON of all of it.
    pub fn class(&self) -> Class {
        Class(Digest::of(&canonical_json(self)))
    }
}
