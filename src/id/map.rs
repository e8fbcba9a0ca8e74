//! Maps by ids that routers made themselves.
//!
//! Nobody else chooses such an id, and most of its bits are random, so that mixing them is all the hashing it needs. What
//! peers choose needs a hash with a key: an [`Identity`](super::Identity) brings its own along.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A map by such ids.
pub type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// A set of such ids.
pub type IdSet<K> = HashSet<K, BuildHasherDefault<IdHasher>>;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

/// An odd number whose bits are in no order.
const MIXER: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for &word in words {
            self.write_u64(u64::from_le_bytes(word));
        }
        for &byte in rest {
            self.write_u64(byte.into());
        }
    }

    /// Both halves of the product: high bits of the id reach the low bits of the hash, and the other way round.
    fn write_u64(&mut self, word: u64) {
        let (low, high) = (self.0 ^ word).carrying_mul(MIXER, 0);
        self.0 = low ^ high;
    }

    /// The length of an id, which is the same for all.
    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, BuildHasherDefault};

    use super::*;
    use crate::id::InvocationId;

    #[test]
    fn ids_made_one_after_the_other_spread_over_the_buckets() {
        let hash = BuildHasherDefault::<IdHasher>::default();
        let hashes: Vec<u64> = (0..10_000).map(|_| hash.hash_one(InvocationId::generate())).collect();
        // A map takes its bucket from the low bits, and tells those in it apart by the highest.
        for shift in [0, 57] {
            let mut filled = [0_u32; 128];
            for hash in &hashes {
                filled[usize::try_from(hash >> shift & 127).unwrap()] += 1;
            }
            assert!(filled.iter().all(|&count| (30..150).contains(&count)), "{filled:?}");
        }
    }
}
