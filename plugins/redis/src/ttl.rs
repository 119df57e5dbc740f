//! Times to live as Redis answers them.

use compozy_sdk::store::Lifetime;

/// What PTTL answers, as the contract has it.
pub(crate) fn lifetime(left: i64) -> Lifetime {
    match left {
        ..=-2 => Lifetime::Missing,
        -1 => Lifetime::Unlimited,
        left => Lifetime::RemainingMs(left.unsigned_abs().max(1)),
    }
}

/// What PTTL answers for something that is there.
pub(crate) fn left_ms(left: i64) -> Option<u64> {
    u64::try_from(left).ok().map(|left| left.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lives_has_a_millisecond_left_at_least() {
        assert!(matches!(lifetime(-2), Lifetime::Missing));
        assert!(matches!(lifetime(-1), Lifetime::Unlimited));
        assert!(matches!(lifetime(0), Lifetime::RemainingMs(1)));
        assert_eq!((left_ms(-1), left_ms(0), left_ms(7)), (None, Some(1), Some(7)));
    }
}
