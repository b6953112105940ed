//! How the votes of a final are encoded in its row: compact, because every final has them and few are ever asked for.
//!
//! A version byte, then postcard: digests that votes share stand once, and what a signature proves is kept as it came. A vote
//! whose worker signs when a receipt is asked for takes about 60 bytes, another 200 and what its Merkle path needs. How many
//! there are is bounded by the policy, and a path by [`crate::receipt::merkle::PATH_MAX`].

use serde::{Deserialize, Serialize};

use super::{CastVote, StoreError};
use crate::core::{Class, Weight};
use crate::digest::Digest;
use crate::id::WorkerId;
use crate::receipt::VoteProof;

/// Votes that are counted.
const COUNTED: u8 = 1;
/// The same, followed by what each weighed.
const WEIGHED: u8 = 2;
/// Added to either: the class of machine code of each is at the end, because it is not the class that it voted in.
const CODED: u8 = 4;

/// All votes of a final.
#[derive(Default, Serialize, Deserialize)]
struct Votes {
    /// Classes, artifacts and results, each once.
    digests: Vec<Digest>,
    domains: Vec<String>,
    votes: Vec<Vote>,
}

/// A [`CastVote`]; what it shares with others as positions in the lists above.
#[derive(Serialize, Deserialize)]
struct Vote {
    number: u32,
    worker: u32,
    key: [u8; 32],
    nonce: [u8; 16],
    domain: u32,
    class: u32,
    artifact: u32,
    result: u32,
    proof: Option<Proof>,
}

/// The classes of machine code of all votes, in their order.
#[derive(Default, Serialize, Deserialize)]
struct Codes {
    /// Each once.
    digests: Vec<Digest>,
    places: Vec<u32>,
}

impl Codes {
    fn of(&self, at: usize) -> Option<Class> {
        self.digests.get(*self.places.get(at)? as usize).copied().map(Class)
    }
}

/// A [`VoteProof`].
#[derive(Serialize, Deserialize)]
struct Proof {
    root: [u8; 32],
    count: u32,
    index: u32,
    path: Vec<[u8; 32]>,
    signature: [[u8; 32]; 2],
}

impl From<&VoteProof> for Proof {
    fn from(proof: &VoteProof) -> Proof {
        let mut signature = [[0; 32]; 2];
        signature.as_flattened_mut().copy_from_slice(&proof.signature);
        let VoteProof { root, count, index, path, .. } = proof;
        Proof { root: *root, count: *count, index: *index, path: path.clone(), signature }
    }
}

impl From<Proof> for VoteProof {
    fn from(proof: Proof) -> VoteProof {
        let mut signature = [0; 64];
        signature.copy_from_slice(proof.signature.as_flattened());
        VoteProof { root: proof.root, count: proof.count, index: proof.index, path: proof.path, signature }
    }
}

/// A [`Weight`].
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Weighed {
    error_ppb: u64,
    k_milli: u64,
    domain: u32,
    is_arbiter: bool,
}

impl From<Weight> for Weighed {
    fn from(weight: Weight) -> Weighed {
        let Weight { error_ppb, k_milli, domain, is_arbiter } = weight;
        Weighed { error_ppb, k_milli, domain, is_arbiter }
    }
}

impl From<Weighed> for Weight {
    fn from(weight: Weighed) -> Weight {
        let Weighed { error_ppb, k_milli, domain, is_arbiter } = weight;
        Weight { error_ppb, k_milli, domain, is_arbiter }
    }
}

/// The position of an item in a short list, to which it is added if it is new.
fn place<T: PartialEq>(list: &mut Vec<T>, item: &(impl ToOwned<Owned = T> + PartialEq<T> + ?Sized)) -> u32 {
    let position = list.iter().position(|other| item == other).unwrap_or_else(|| {
        list.push(item.to_owned());
        list.len() - 1
    });
    // lists are as short as the votes are few
    u32::try_from(position).unwrap_or(u32::MAX)
}

/// Encodes the votes of a final.
pub fn encode(cast: &[CastVote]) -> Vec<u8> {
    let mut all = Votes::default();
    for vote in cast {
        let vote = Vote {
            number: vote.number,
            worker: vote.worker.0,
            key: vote.key,
            nonce: vote.nonce,
            domain: place(&mut all.domains, vote.domain.as_str()),
            class: place(&mut all.digests, &vote.class.0),
            artifact: place(&mut all.digests, &vote.artifact),
            result: place(&mut all.digests, &vote.result),
            proof: vote.proof.as_deref().map(Proof::from),
        };
        all.votes.push(vote);
    }
    let is_weighed = cast.iter().any(|vote| vote.weight.is_some());
    let is_coded = cast.iter().any(|vote| vote.code != vote.class);
    let version = if is_weighed { WEIGHED } else { COUNTED } | if is_coded { CODED } else { 0 };
    let mut bytes = appended(&all, vec![version]);
    if is_weighed {
        let weights: Vec<Option<Weighed>> = cast.iter().map(|vote| vote.weight.map(Weighed::from)).collect();
        bytes = appended(&weights, bytes);
    }
    if is_coded {
        let mut codes = Codes::default();
        codes.places = cast.iter().map(|vote| place(&mut codes.digests, &vote.code.0)).collect();
        bytes = appended(&codes, bytes);
    }
    bytes
}

fn appended(value: &impl Serialize, bytes: Vec<u8>) -> Vec<u8> {
    postcard::to_extend(value, bytes).expect("writing to memory, of types without failing impls")
}

/// Decodes them.
pub fn decode(bytes: &[u8]) -> Result<Vec<CastVote>, StoreError> {
    let refuse = |why: String| StoreError::Decode { what: "list of votes", why };
    let (version, rest) = bytes.split_first().ok_or_else(|| refuse("it is empty".to_owned()))?;
    let (is_coded, version) = (version & CODED != 0, version & !CODED);
    if ![COUNTED, WEIGHED].contains(&version) {
        return Err(refuse(format!("version {version} is not known to this build")));
    }
    let broken = |error: postcard::Error| refuse(error.to_string());
    let (all, rest) = postcard::take_from_bytes::<Votes>(rest).map_err(broken)?;
    let (weights, rest) = match version {
        WEIGHED => postcard::take_from_bytes::<Vec<Option<Weighed>>>(rest).map_err(broken)?,
        _ => (Vec::new(), rest),
    };
    if version == WEIGHED && weights.len() != all.votes.len() {
        return Err(refuse("not every vote has a weight".to_owned()));
    }
    let (codes, rest) = match is_coded {
        true => postcard::take_from_bytes::<Codes>(rest).map(|(codes, rest)| (Some(codes), rest)),
        false => Ok((None, rest)),
    }
    .map_err(broken)?;
    if !rest.is_empty() {
        return Err(refuse("something is behind it".to_owned()));
    }
    let Votes { digests, domains, votes } = all;
    let dangling = || refuse("it refers to what is not there".to_owned());
    let digest = |at: u32| digests.get(at as usize).copied().ok_or_else(dangling);
    let cast = |(at, vote): (usize, Vote)| {
        Ok(CastVote {
            weight: weights.get(at).copied().flatten().map(Weight::from),
            number: vote.number,
            worker: WorkerId(vote.worker),
            key: vote.key,
            domain: domains.get(vote.domain as usize).cloned().ok_or_else(dangling)?,
            nonce: vote.nonce,
            class: Class(digest(vote.class)?),
            code: match &codes {
                Some(codes) => codes.of(at).ok_or_else(dangling)?,
                None => Class(digest(vote.class)?),
            },
            artifact: digest(vote.artifact)?,
            result: digest(vote.result)?,
            proof: vote.proof.map(|proof| Box::new(proof.into())),
        })
    };
    votes.into_iter().enumerate().map(cast).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::fixtures::cast_votes;

    #[test]
    fn votes_are_read_as_they_were_written() {
        let votes = cast_votes(Digest::of(b"result"));
        assert!(
            votes.iter().any(|vote| vote.proof.is_some()) && votes.iter().any(|vote| vote.proof.is_none())
        );
        let bytes = encode(&votes);
        assert_eq!(decode(&bytes).unwrap(), votes);
        assert_eq!(decode(&encode(&[])).unwrap(), []);
        let mut weighed = votes.clone();
        weighed[1].weight = Some(Weight { error_ppb: 1, k_milli: 2, domain: 1 << 31, is_arbiter: true });
        let weighed_bytes = encode(&weighed);
        assert_eq!(decode(&weighed_bytes).unwrap(), weighed);
        assert!(decode(&weighed_bytes[..weighed_bytes.len() - 1]).is_err());
        let mut coded = weighed.clone();
        coded[0].code = Class(Digest::of(b"machine code"));
        for votes in [&coded[..], &coded[..1]] {
            let bytes = encode(votes);
            assert_eq!(decode(&bytes).unwrap(), votes);
            assert!(decode(&bytes[..bytes.len() - 1]).is_err());
        }
        for wrong in
            [&[][..], &[2], &[3], &[5], &[8], &bytes[..bytes.len() - 1], &[&bytes[..], &[0]].concat()]
        {
            assert!(matches!(decode(wrong), Err(StoreError::Decode { .. })), "{wrong:?}");
        }
    }

    #[test]
    fn what_votes_share_is_kept_once() {
        let unsigned = |number: u32| CastVote {
            number,
            worker: WorkerId(number),
            key: [7; 32],
            proof: None,
            ..cast_votes(Digest::of(b"result")).remove(0)
        };
        let (one, two) = (encode(&[unsigned(1)]).len(), encode(&[unsigned(1), unsigned(2)]).len());
        assert!(two - one <= 64, "{one} and {two} bytes");
        assert!(two <= 256, "{two} bytes");
    }
}
