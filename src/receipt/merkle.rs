//! Merkle trees over SHA-256 as in RFC 6962, section 2.1: leaves are hashed with the prefix 0, inner nodes with 1.
//!
//! Invariant: the root fixes the leaves and their order once their number is known, which is why the number is signed with it.

use sha2::{Digest as _, Sha256};

/// A hash in the tree.
pub type Node = [u8; 32];

/// The longest path that is followed: a batch has far fewer leaves than 2^32.
pub const PATH_MAX: usize = 32;

/// The hash of a leaf.
pub fn leaf(bytes: &[u8]) -> Node {
    Sha256::new().chain_update([0]).chain_update(bytes).finalize().into()
}

fn inner(left: &Node, right: &Node) -> Node {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The largest power of two below `count`, which is at least 2.
fn split(count: usize) -> usize {
    1 << (usize::BITS - 1 - (count - 1).leading_zeros())
}

/// The root over `leaves`; of none it is the hash of nothing.
pub fn root(leaves: &[Node]) -> Node {
    match leaves {
        [] => Sha256::digest([]).into(),
        [only] => *only,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            inner(&root(left), &root(right))
        }
    }
}

/// What has to be hashed with the leaf at `index` to get the root, from the leaf upwards; empty if there is no such leaf.
pub fn path(leaves: &[Node], index: usize) -> Vec<Node> {
    if leaves.len() < 2 || index >= leaves.len() {
        return Vec::new();
    }
    let middle = split(leaves.len());
    let (left, right) = leaves.split_at(middle);
    let (mut below, beside) = match index < middle {
        true => (path(left, index), root(right)),
        false => (path(right, index - middle), root(left)),
    };
    below.push(beside);
    below
}

/// The root and every leaf's path, hashed once for all of them.
pub fn tree(leaves: &[Node]) -> (Node, Vec<Vec<Node>>) {
    let mut paths = vec![Vec::new(); leaves.len()];
    let root = if leaves.is_empty() { root(leaves) } else { grow(leaves, &mut paths) };
    (root, paths)
}

fn grow(leaves: &[Node], paths: &mut [Vec<Node>]) -> Node {
    if let [only] = leaves {
        return *only;
    }
    let middle = split(leaves.len());
    let (left_paths, right_paths) = paths.split_at_mut(middle);
    let left = grow(&leaves[..middle], left_paths);
    let right = grow(&leaves[middle..], right_paths);
    left_paths.iter_mut().for_each(|path| path.push(right));
    right_paths.iter_mut().for_each(|path| path.push(left));
    inner(&left, &right)
}

/// Whether `leaf` is the one at `index` of `count` leaves under `root`.
pub fn is_included(leaf: Node, index: u32, count: u32, path: &[Node], root: &Node) -> bool {
    climb(leaf, index as usize, count as usize, path).is_some_and(|top| top == *root)
}

/// The root that has `leaf` at `index` of `count` leaves, by this path; `None` if there is no such tree.
pub(super) fn climb(leaf: Node, index: usize, count: usize, path: &[Node]) -> Option<Node> {
    if index >= count || path.len() > PATH_MAX {
        return None;
    }
    let Some((beside, below)) = path.split_last() else {
        return (count == 1).then_some(leaf);
    };
    if count < 2 {
        return None;
    }
    let middle = split(count);
    if index < middle {
        Some(inner(&climb(leaf, index, middle, below)?, beside))
    } else {
        Some(inner(beside, &climb(leaf, index - middle, count - middle, below)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u32) -> Vec<Node> {
        (0..count).map(|number| leaf(&number.to_be_bytes())).collect()
    }

    #[test]
    fn every_leaf_is_included_where_it_is_and_nowhere_else() {
        for count in 1..40_u32 {
            let leaves = leaves(count);
            let (top, paths) = tree(&leaves);
            assert_eq!(top, root(&leaves));
            let root = top;
            for index in 0..count {
                let path = path(&leaves, index as usize);
                assert_eq!(path, paths[index as usize]);
                let mine = leaves[index as usize];
                assert!(is_included(mine, index, count, &path, &root), "{index} of {count}");
                assert!(!is_included(leaf(b"other"), index, count, &path, &root));
                for other in (0..count).filter(|other| *other != index) {
                    assert!(!is_included(mine, other, count, &path, &root), "{index} as {other} of {count}");
                }
            }
            assert!(!is_included(leaves[0], count, count, &path(&leaves, 0), &root));
        }
    }

    #[test]
    fn the_roots_of_the_standard_come_out() {
        // the test vectors of Certificate Transparency: the leaves "", 00, 10
        let hex = |node: Node| node.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(root(&[])), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let leaves = [leaf(b""), leaf(&[0]), leaf(&[0x10])];
        assert_eq!(
            hex(root(&leaves[..1])),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
        assert_eq!(
            hex(root(&leaves[..2])),
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
        );
        assert_eq!(hex(root(&leaves)), "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77");
    }

    #[test]
    fn a_path_of_the_wrong_length_proves_nothing() {
        let leaves = leaves(5);
        let root = root(&leaves);
        let good = path(&leaves, 2);
        assert!(!is_included(leaves[2], 2, 5, &good[1..], &root));
        let mut long = good.clone();
        long.push([0; 32]);
        assert!(!is_included(leaves[2], 2, 5, &long, &root));
        assert!(!is_included(root, 0, 5, &[], &root), "an inner node is no leaf");
    }
}
