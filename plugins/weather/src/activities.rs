//! What to do in which weather.

use compozy_sdk::TaskError;
use serde::Serialize;

use crate::weather::{Condition, Weather};

/// How many activities are suggested.
const SUGGESTIONS_MAX: usize = 5;
/// An activity of this score or more is suitable.
const SUITABLE: u32 = 60;

struct Activity {
    name: &'static str,
    /// The range of daily highs that it is pleasant in, in degrees Celsius.
    high_c: (i32, i32),
    /// The chance of rain, in percent, up to which it does not suffer.
    rain_percent: u32,
    needs_snow: bool,
}

const fn outdoor(name: &'static str, coldest: i32, hottest: i32, rain_percent: u32) -> Activity {
    Activity { name, high_c: (coldest, hottest), rain_percent, needs_snow: false }
}

const fn on_snow(name: &'static str, hottest: i32) -> Activity {
    Activity { name, high_c: (-20, hottest), rain_percent: 100, needs_snow: true }
}

const fn indoor(name: &'static str) -> Activity {
    Activity { name, high_c: (-50, 60), rain_percent: 100, needs_snow: false }
}

/// From the most to the least special: the order in which they are suggested.
const ALL: &[Activity] = &[
    on_snow("cross-country skiing", 2),
    on_snow("ice skating", 3),
    outdoor("day at the beach", 25, 40, 20),
    outdoor("open-air concert", 19, 33, 20),
    outdoor("boat trip", 17, 35, 30),
    outdoor("picnic in the park", 17, 31, 25),
    outdoor("bicycle tour", 11, 28, 33),
    outdoor("hike", 5, 26, 33),
    outdoor("walk in the old town", 4, 32, 40),
    indoor("museum visit"),
    indoor("evening in a café"),
];

/// How an activity fits the weather.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Analysis {
    pub(crate) activity: String,
    pub(crate) suitable: bool,
    /// 0 to 100.
    pub(crate) score: u32,
    pub(crate) reason: String,
}

/// Activities for the temperature, the most special first; the chance of rain is left to [`analyze`].
pub(crate) fn suggest(weather: &Weather) -> Vec<&'static str> {
    let fits = |activity: &&Activity| {
        (activity.high_c.0..=activity.high_c.1).contains(&weather.high_c)
            && (!activity.needs_snow || weather.condition == Condition::Snowy)
    };
    ALL.iter().filter(fits).map(|activity| activity.name).take(SUGGESTIONS_MAX).collect()
}

/// Rates one of the activities.
pub(crate) fn analyze(name: &str, weather: &Weather) -> Result<Analysis, TaskError> {
    let Some(activity) = ALL.iter().find(|activity| activity.name.eq_ignore_ascii_case(name)) else {
        let known: Vec<&str> = ALL.iter().map(|activity| activity.name).collect();
        return Err(TaskError::failed(
            "ACTIVITY_UNKNOWN",
            format!("there are no rules for the activity `{name}`. There are: {}", known.join(", ")),
        ));
    };
    let (coldest, hottest) = activity.high_c;
    let high = weather.high_c;
    let off = (coldest - high).max(high - hottest).max(0).unsigned_abs();
    let wet = weather.rain_percent.saturating_sub(activity.rain_percent);
    let (penalty, reason) = if activity.needs_snow && weather.condition != Condition::Snowy {
        (100, "there is no snow to count on".to_owned())
    } else if off > 0 {
        let what = if high < coldest { "cold" } else { "hot" };
        (off * 10 + wet, format!("{high} °C is too {what}; it is best from {coldest} to {hottest} °C"))
    } else if wet > 0 {
        (wet * 3, format!("{high} °C is fine, but {} % of the days are wet", weather.rain_percent))
    } else if activity.rain_percent >= 100 {
        (0, "the weather does not spoil it".to_owned())
    } else {
        (0, format!("{high} °C, and only {} % of the days are wet", weather.rain_percent))
    };
    let score = 100_u32.saturating_sub(penalty);
    Ok(Analysis { activity: activity.name.into(), suitable: score >= SUITABLE, score, reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cities;

    fn in_month(city: &str, month: u8) -> Weather {
        Weather::of_climate(cities::find(city).unwrap(), Some(month)).unwrap()
    }

    #[test]
    fn suggestions_follow_the_weather() {
        for (city, month, first, never) in [
            ("Lisbon", 7, "day at the beach", "ice skating"),
            ("Oslo", 1, "cross-country skiing", "picnic in the park"),
            ("London", 11, "bicycle tour", "day at the beach"),
        ] {
            let suggested = suggest(&in_month(city, month));
            assert_eq!(suggested.first(), Some(&first), "{city}");
            assert!(!suggested.contains(&never) && suggested.len() <= SUGGESTIONS_MAX, "{suggested:?}");
        }
    }

    #[test]
    fn there_is_something_to_do_in_every_city_and_month() {
        for city in cities::ALL {
            for month in 1..=12 {
                assert!(!suggest(&in_month(city.name, month)).is_empty(), "{} {month}", city.name);
            }
        }
    }

    #[test]
    fn an_analysis_gives_its_reason() {
        for (activity, city, month, suitable, reason) in [
            ("day at the beach", "Lisbon", 7, true, "28 °C, and only 3 % of the days are wet"),
            ("day at the beach", "Oslo", 1, false, "0 °C is too cold; it is best from 25 to 40 °C"),
            ("hike", "Nairobi", 4, false, "25 °C is fine, but 53 % of the days are wet"),
            ("ice skating", "Cairo", 7, false, "there is no snow to count on"),
            ("museum visit", "Oslo", 1, true, "the weather does not spoil it"),
            ("bicycle tour", "Madrid", 7, false, "33 °C is too hot; it is best from 11 to 28 °C"),
        ] {
            let analysis = analyze(activity, &in_month(city, month)).unwrap();
            assert_eq!((analysis.suitable, analysis.reason.as_str()), (suitable, reason), "{activity}: {analysis:?}");
        }
    }

    #[test]
    fn an_unknown_activity_is_answered_with_the_known() {
        let error = analyze("base jumping", &in_month("Oslo", 1)).unwrap_err();
        assert_eq!(error.code(), "ACTIVITY_UNKNOWN");
        assert!(error.message().contains("`base jumping`") && error.message().contains("museum visit"));
    }
}
