//! Keys and values that a careless backend mixes up or trips over.

use crate::compare::Blob;
use crate::rng::Rng;

/// One kilobyte of the contract.
pub(crate) const KIB: usize = 1024;

/// Keys of all kinds: quotes, wildcards, brackets, line breaks, NUL, the ends of Unicode, the greatest length.
pub(crate) fn nasty() -> Vec<String> {
    let mut keys: Vec<String> = [
        "a",
        "A",
        "a%",
        "a%b",
        "a_",
        "a_b",
        "axb",
        "a*",
        "a?",
        "a[b]",
        "ab",
        "a\\",
        "a\\%",
        "{a}",
        "a{b",
        "a}",
        "a'b",
        "a\"b",
        "a;--",
        "a:b",
        "a\n",
        "a\r\nb",
        " a",
        "a ",
        "\0",
        "a\0",
        "a\0b",
        "ä",
        "a\u{308}",
        "日本語",
        "🦀",
        "\u{FFFF}",
        "\u{10FFFF}",
    ]
    .map(str::to_owned)
    .to_vec();
    keys.push("k".repeat(512));
    keys.push("k".repeat(511));
    keys.push("é".repeat(256));
    keys
}

/// Keys beyond the limits.
pub(crate) fn wrong() -> Vec<String> {
    vec![String::new(), "k".repeat(513), "é".repeat(257)]
}

/// What a random run draws from: a handful of keys, so that steps meet, and numbers that meet each other on the clock.
pub(crate) struct Pool {
    pub(crate) keys: Vec<String>,
    pub(crate) prefixes: Vec<String>,
    ttls: Vec<u64>,
}

/// A hundred years.
pub(crate) const FAR_MS: u64 = 100 * 366 * 24 * 3_600_000;

impl Pool {
    /// `exact`: the clock is turned, so that short times to live can be told apart.
    pub(crate) fn new(rng: &mut Rng, exact: bool) -> Self {
        let mut keys = nasty();
        let count = 3 + rng.below(6);
        let keys: Vec<String> = (0..count).map(|_| keys.remove(rng.below(keys.len()))).collect();
        let mut prefixes: Vec<String> =
            ["", "a", "%", "_", "a%", "a_", "*", "?", "[", "\\", "k", "\0"].map(str::to_owned).to_vec();
        prefixes.extend(keys.iter().cloned());
        let ttls = if exact { vec![1, 10, 500, 1_000, 60_000, FAR_MS] } else { vec![3_600_000, 86_400_000, FAR_MS] };
        Self { keys, prefixes, ttls }
    }

    /// A key; once in a long while one that is refused.
    pub(crate) fn key(&self, rng: &mut Rng) -> String {
        if rng.one_in(150) { rng.pick(&wrong()).clone() } else { rng.pick(&self.keys).clone() }
    }

    pub(crate) fn prefix(&self, rng: &mut Rng) -> String {
        rng.pick(&self.prefixes).clone()
    }

    /// A time to live or none; once in a long while one that is refused.
    pub(crate) fn ttl(&self, rng: &mut Rng) -> Option<u64> {
        if rng.one_in(2) { None } else { Some(self.some_ttl(rng)) }
    }

    /// A time to live.
    pub(crate) fn some_ttl(&self, rng: &mut Rng) -> u64 {
        if rng.one_in(150) { 0 } else { *rng.pick(&self.ttls) }
    }

    /// An age that splits events only where the clock can be turned.
    pub(crate) fn age(&self, rng: &mut Rng) -> u64 {
        *rng.pick(&self.ttls)
    }

    /// How much a page may have; once in a long while too much or nothing.
    pub(crate) fn page(rng: &mut Rng) -> u32 {
        if rng.one_in(100) { *rng.pick(&[0, 1_001]) } else { *rng.pick(&[1, 2, 3, 7, 100, 1_000]) }
    }

    /// A value: mostly short, often a number, sometimes some kilobytes.
    pub(crate) fn value(rng: &mut Rng) -> Blob {
        match rng.below(12) {
            0 => Blob(Vec::new()),
            1 => Blob(vec![0]),
            2..=5 => Blob(((rng.below(2_000) as u64).cast_signed() - 1_000).to_string().into_bytes()),
            6 => Blob(
                rng.pick(&["01", "-0", "+1", " 1", "9223372036854775807", "-9223372036854775808", "1.5"])
                    .as_bytes()
                    .to_vec(),
            ),
            7 => Blob((0..=255).collect()),
            8 if rng.one_in(8) => filled(rng.below(64 * KIB), rng.next()),
            _ => Blob(format!("v{}", rng.below(1_000_000)).into_bytes()),
        }
    }
}

/// So many bytes that differ with the seed and with their place.
pub(crate) fn filled(bytes: usize, seed: u64) -> Blob {
    let mut state = seed | 1;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    Blob(std::iter::repeat_with(next).take(bytes).collect())
}

/// A key as a person can read it.
pub(crate) fn shown(key: &str) -> String {
    if key.len() <= 60 {
        return format!("{key:?}");
    }
    let start: String = key.chars().take(8).collect();
    format!("\"{start}…\" ({} bytes)", key.len())
}

/// Keys as a person can read them.
pub(crate) fn shown_all<'a>(keys: impl IntoIterator<Item = &'a String>) -> String {
    let keys: Vec<String> = keys.into_iter().map(|key| shown(key)).collect();
    if keys.len() > 12 {
        format!("[{}, … {} in all]", keys[..10].join(", "), keys.len())
    } else {
        format!("[{}]", keys.join(", "))
    }
}

/// A time to live as a person can read it.
pub(crate) fn shown_ttl(ttl_ms: Option<u64>) -> String {
    ttl_ms.map_or_else(|| "no ttl".to_owned(), |ttl| format!("ttl {ttl} ms"))
}

/// The words of the traits for a time to live.
pub(crate) fn duration(ttl_ms: Option<u64>) -> Option<std::time::Duration> {
    ttl_ms.map(std::time::Duration::from_millis)
}
