//! The weather that all actions speak about.

use compozy_sdk::TaskError;
use serde::{Deserialize, Serialize};

use crate::cities::City;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The sky, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Condition {
    Sunny,
    Mixed,
    Rainy,
    Snowy,
}

/// The weather of a place over some time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Weather {
    pub(crate) city: String,
    pub(crate) country: String,
    /// A month, `the year` or `today`.
    pub(crate) period: String,
    /// Usual highest temperature of a day, in degrees Celsius.
    pub(crate) high_c: i32,
    /// Usual lowest temperature of a day, in degrees Celsius.
    pub(crate) low_c: i32,
    /// Rain (or melted snow) in the whole period, in millimetres.
    pub(crate) rain_mm: u32,
    /// How likely a day of the period is to be wet, in percent.
    pub(crate) rain_percent: u32,
    pub(crate) condition: Condition,
    /// True for climate averages: rounded, and not a forecast.
    pub(crate) approximate: bool,
    /// Where the numbers come from.
    pub(crate) source: String,
    /// What a reader should know about the numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

impl Weather {
    /// The averages of a month (1 to 12), or of the year.
    pub(crate) fn of_climate(city: &City, month: Option<u8>) -> Result<Self, TaskError> {
        let (period, months) = match month {
            None => ("the year", 0..12),
            Some(month @ 1..=12) => {
                let index = usize::from(month) - 1;
                (MONTHS[index], index..index + 1)
            }
            Some(other) => {
                return Err(TaskError::invalid_input(format!("`month` is {other}; it goes from 1 (January) to 12")));
            }
        };
        let high_c = mean(&city.high_c[months.clone()]);
        let low_c = mean(&city.low_c[months.clone()]);
        let rain_mm = city.rain_mm[months.clone()].iter().map(|mm| u32::from(mm.unsigned_abs())).sum();
        let rain_percent = (mean(&city.rainy_days[months]) * 100 / 30).unsigned_abs().min(100);
        Ok(Self {
            city: city.name.into(),
            country: city.country.into(),
            period: period.into(),
            high_c,
            low_c,
            rain_mm,
            rain_percent,
            condition: condition(high_c, rain_percent),
            approximate: true,
            source: "rounded climate averages".into(),
            note: None,
        })
    }

    pub(crate) fn with_note(mut self, note: String) -> Self {
        self.note = Some(note);
        self
    }
}

/// The rounded mean of some months; there is at least one.
fn mean(values: &[i16]) -> i32 {
    let count = i32::try_from(values.len().max(1)).expect("a year has twelve months");
    let sum: i32 = values.iter().map(|value| i32::from(*value)).sum();
    (sum * 2 + count).div_euclid(count * 2)
}

pub(crate) fn condition(high_c: i32, rain_percent: u32) -> Condition {
    match rain_percent {
        0..15 => Condition::Sunny,
        15..33 => Condition::Mixed,
        _ if high_c <= 2 => Condition::Snowy,
        _ => Condition::Rainy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cities;

    fn of(city: &str, month: Option<u8>) -> Weather {
        Weather::of_climate(cities::find(city).unwrap(), month).unwrap()
    }

    #[test]
    fn months_differ_and_the_year_lies_between() {
        let (winter, summer, year) = (of("Oslo", Some(1)), of("Oslo", Some(7)), of("Oslo", None));
        assert!(winter.high_c < year.high_c && year.high_c < summer.high_c);
        assert_eq!((winter.rain_mm, summer.rain_mm, year.rain_mm), (55, 85, 815));
        assert_eq!(
            (winter.period.as_str(), summer.period.as_str(), year.period.as_str()),
            ("January", "July", "the year")
        );
        assert_eq!((winter.condition, of("Lisbon", Some(7)).condition), (Condition::Snowy, Condition::Sunny));
    }

    #[test]
    fn averages_say_that_they_are_approximate() {
        assert!(of("Lisbon", None).approximate);
    }

    #[test]
    fn a_month_that_does_not_exist_is_refused_with_its_value() {
        for month in [0, 13] {
            let error = Weather::of_climate(cities::find("Oslo").unwrap(), Some(month)).unwrap_err();
            assert_eq!(error.to_string(), format!("INVALID_INPUT: `month` is {month}; it goes from 1 (January) to 12"));
        }
    }

    #[test]
    fn means_are_rounded_to_the_nearest_also_below_zero() {
        assert_eq!((mean(&[1, 2]), mean(&[-3, -2, -2]), mean(&[-4])), (2, -2, -4));
    }

    #[test]
    fn every_city_is_plausible_in_every_month() {
        for city in cities::ALL {
            for month in 0..12 {
                let (low, high) = (city.low_c[month], city.high_c[month]);
                assert!(low < high && (-30..=35).contains(&low) && (-20..=45).contains(&high), "{} {month}", city.name);
                assert!((0..=1_000).contains(&city.rain_mm[month]), "{} {month}", city.name);
                assert!((0..=30).contains(&city.rainy_days[month]), "{} {month}", city.name);
            }
        }
    }
}
