//! Tables without collisions: searches a seed that gives every entry its own bucket.

/// Seeds to try. 256 random addresses in 4,096 buckets have no collision once in 3,000 tries
/// (e^(-256²/(2·4096))); consecutive addresses much more often. 32 interfaces in 256 buckets: once in 7.
pub(super) const TRIES: u32 = 1 << 22;

/// A seed that gives no two of the different `keys` one bucket of `BUCKETS`, and the number of tries. Every
/// word of a seed is odd.
pub(super) fn find<K, const WORDS: usize, const BUCKETS: usize>(
    keys: &[K],
    bucket: impl Fn([u64; WORDS], &K) -> usize,
) -> Option<([u64; WORDS], u32)> {
    let mut state = 0;
    let mut last_seen = [0u32; BUCKETS];
    (1..=TRIES).find_map(|attempt| {
        let seed = std::array::from_fn(|_| split_mix(&mut state) | 1);
        let apart = keys.iter().all(|key| {
            let seen = &mut last_seen[bucket(seed, key)];
            std::mem::replace(seen, attempt) != attempt
        });
        apart.then_some((seed, attempt))
    })
}

/// Sebastiano Vigna's SplitMix64: deterministic, so that compiling is a function.
pub(super) fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
