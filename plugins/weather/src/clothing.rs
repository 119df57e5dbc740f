//! What to wear in which weather.

use compozy_sdk::TaskError;
use serde::Serialize;

use crate::weather::{Condition, Weather};

/// Pieces that one wardrobe may list.
const WARDROBE_MAX: usize = 1_000;

/// When a piece of clothing is of use.
enum Use {
    /// While the day's high is in this range, in degrees Celsius.
    High(i32, i32),
    /// When the day's low is at most this, in degrees Celsius.
    ColdNights(i32),
    /// When at least this share of the days is wet, in percent.
    Rain(u32),
    /// Under a clear sky of at least this high, in degrees Celsius.
    Sun(i32),
}

struct Piece {
    name: &'static str,
    of_use: Use,
}

const fn piece(name: &'static str, of_use: Use) -> Piece {
    Piece { name, of_use }
}

/// From head to toe within each layer: the order in which they are suggested.
const ALL: &[Piece] = &[
    piece("T-shirt", Use::High(18, 60)),
    piece("long-sleeved shirt", Use::High(8, 22)),
    piece("thermal underwear", Use::High(-50, 2)),
    piece("shorts", Use::High(24, 60)),
    piece("long trousers", Use::High(-50, 25)),
    piece("sweater", Use::ColdNights(13)),
    piece("light jacket", Use::High(10, 21)),
    piece("winter coat", Use::High(-50, 9)),
    piece("rain jacket", Use::Rain(25)),
    piece("umbrella", Use::Rain(33)),
    piece("sun hat", Use::Sun(24)),
    piece("sunglasses", Use::Sun(15)),
    piece("woollen hat", Use::ColdNights(1)),
    piece("gloves", Use::ColdNights(0)),
    piece("sandals", Use::High(26, 60)),
    piece("sturdy shoes", Use::High(-50, 25)),
];

/// Whether a piece fits the weather.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Validation {
    pub(crate) item: String,
    pub(crate) suitable: bool,
    pub(crate) reason: String,
}

/// Clothes for the weather; of a `wardrobe`, only what it has.
pub(crate) fn suggest(weather: &Weather, wardrobe: Option<&[String]>) -> Result<Vec<&'static str>, TaskError> {
    let owned = wardrobe.map(|names| names.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>()).transpose()?;
    if let Some(count) = owned.as_ref().map(Vec::len).filter(|count| *count > WARDROBE_MAX) {
        return Err(TaskError::invalid_input(format!(
            "the `wardrobe` has {count} pieces; at most {WARDROBE_MAX} are looked at"
        )));
    }
    let has = |piece: &Piece| owned.as_ref().is_none_or(|owned| owned.iter().any(|own| own.name == piece.name));
    Ok(ALL.iter().filter(|piece| has(piece) && check(piece, weather).0).map(|piece| piece.name).collect())
}

/// Checks one piece.
pub(crate) fn validate(name: &str, weather: &Weather) -> Result<Validation, TaskError> {
    let piece = find(name)?;
    let (suitable, reason) = check(piece, weather);
    Ok(Validation { item: piece.name.into(), suitable, reason })
}

fn find(name: &str) -> Result<&'static Piece, TaskError> {
    ALL.iter().find(|piece| piece.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        let known: Vec<&str> = ALL.iter().map(|piece| piece.name).collect();
        TaskError::failed(
            "CLOTHING_UNKNOWN",
            format!("there are no rules for the piece `{name}`. There are: {}", known.join(", ")),
        )
    })
}

fn check(piece: &Piece, weather: &Weather) -> (bool, String) {
    let Weather { high_c, low_c, rain_percent, .. } = weather;
    match piece.of_use {
        Use::High(from, _) if *high_c < from => (false, format!("too cold for it: the day's high is {high_c} °C")),
        Use::High(_, to) if *high_c > to => (false, format!("too warm for it: the day's high is {high_c} °C")),
        Use::High(..) => (true, format!("right for a high of {high_c} °C")),
        Use::ColdNights(at_most) if *low_c <= at_most => (true, format!("it gets as cold as {low_c} °C")),
        Use::ColdNights(_) => (false, format!("not needed: it gets no colder than {low_c} °C")),
        Use::Rain(from) if *rain_percent >= from => (true, format!("{rain_percent} % of the days are wet")),
        Use::Rain(_) => (false, format!("not needed: only {rain_percent} % of the days are wet")),
        Use::Sun(from) if *high_c >= from && matches!(weather.condition, Condition::Sunny | Condition::Mixed) => {
            (true, format!("there is sun, and {high_c} °C"))
        }
        Use::Sun(_) => (false, "there is not much sun to protect from".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cities;

    fn in_month(city: &str, month: u8) -> Weather {
        Weather::of_climate(cities::find(city).unwrap(), Some(month)).unwrap()
    }

    #[test]
    fn clothes_follow_the_weather() {
        for (city, month, with, without) in [
            ("Lisbon", 7, ["T-shirt", "shorts", "sun hat"], "winter coat"),
            ("Oslo", 1, ["winter coat", "gloves", "thermal underwear"], "shorts"),
            ("London", 11, ["rain jacket", "long trousers", "sweater"], "sandals"),
        ] {
            let clothes = suggest(&in_month(city, month), None).unwrap();
            assert!(with.iter().all(|piece| clothes.contains(piece)), "{city}: {clothes:?}");
            assert!(!clothes.contains(&without), "{city}: {clothes:?}");
        }
    }

    #[test]
    fn nobody_goes_naked_in_any_city_and_month() {
        for city in cities::ALL {
            for month in 1..=12 {
                let clothes = suggest(&in_month(city.name, month), None).unwrap();
                assert!(clothes.len() >= 3, "{} {month}: {clothes:?}", city.name);
            }
        }
    }

    #[test]
    fn a_wardrobe_bounds_what_is_suggested_to_nothing_if_need_be() {
        let wardrobe = ["Shorts".to_owned(), "gloves".to_owned()];
        assert_eq!(suggest(&in_month("Lisbon", 7), Some(&wardrobe)).unwrap(), ["shorts"]);
        assert_eq!(suggest(&in_month("Oslo", 1), Some(&wardrobe)).unwrap(), ["gloves"]);
        assert!(suggest(&in_month("London", 5), Some(&wardrobe)).unwrap().is_empty());
        assert_eq!(suggest(&in_month("Oslo", 1), Some(&["cape".to_owned()])).unwrap_err().code(), "CLOTHING_UNKNOWN");
    }

    #[test]
    fn a_validation_gives_its_reason() {
        for (piece, suitable, reason) in [
            ("shorts", false, "too cold for it: the day's high is 0 °C"),
            ("winter coat", true, "right for a high of 0 °C"),
            ("gloves", true, "it gets as cold as -5 °C"),
            ("sun hat", false, "there is not much sun to protect from"),
            ("umbrella", true, "33 % of the days are wet"),
        ] {
            let validation = validate(piece, &in_month("Oslo", 1)).unwrap();
            assert_eq!((validation.suitable, validation.reason.as_str()), (suitable, reason), "{piece}");
        }
    }
}
