//! Today's forecast from Open-Meteo, when the operator granted the way there.

use std::time::Duration;

use compozy_sdk::http::{HttpError, Request};
use serde::Deserialize;

use crate::cities::City;
use crate::weather::{Weather, condition};

/// How long the forecast may take: averages are at hand, so not long.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How many bytes the forecast may have; it has less than one thousand.
const BODY_BYTES_MAX: usize = 64 * 1024;

#[derive(Deserialize)]
struct Forecast {
    daily: Daily,
}

#[derive(Deserialize)]
struct Daily {
    temperature_2m_max: Vec<f64>,
    temperature_2m_min: Vec<f64>,
    precipitation_sum: Vec<f64>,
    precipitation_probability_max: Vec<Option<f64>>,
}

/// Today's weather, or the reason why it is not to be had.
pub(crate) fn forecast(city: &City) -> Result<Weather, HttpError> {
    let url = format!(
        "https://api.open-meteo.com/v1/forecast?latitude={}&longitude={}&timezone=auto&forecast_days=1\
         &daily=temperature_2m_max,temperature_2m_min,precipitation_sum,precipitation_probability_max",
        city.latitude, city.longitude
    );
    let response = Request::get(&url).timeout(TIMEOUT).body_limit(BODY_BYTES_MAX).send()?;
    if response.status != 200 {
        return Err(HttpError::Protocol(format!("api.open-meteo.com answered with the status {}", response.status)));
    }
    weather(city, &response.json()?)
}

fn weather(city: &City, forecast: &Forecast) -> Result<Weather, HttpError> {
    let Daily { temperature_2m_max, temperature_2m_min, precipitation_sum, precipitation_probability_max } =
        &forecast.daily;
    let today = |values: &[f64]| {
        let value = values.first().copied().filter(|value| value.is_finite() && value.abs() < 10_000.0);
        value.ok_or_else(|| HttpError::Protocol("api.open-meteo.com answered without a value for today".into()))
    };
    let high_c = today(temperature_2m_max)?.round() as i32;
    let rain_mm = today(precipitation_sum)?.max(0.0);
    // Some models do not give a probability; then rain that is forecast is rain.
    let rain =
        precipitation_probability_max.first().copied().flatten().unwrap_or(if rain_mm >= 1.0 { 100.0 } else { 0.0 });
    let rain_percent = (rain.clamp(0.0, 100.0).round() as i32).unsigned_abs();
    Ok(Weather {
        city: city.name.into(),
        country: city.country.into(),
        period: "today".into(),
        high_c,
        low_c: today(temperature_2m_min)?.round() as i32,
        rain_mm: (rain_mm.round() as i32).unsigned_abs(),
        rain_percent,
        condition: condition(high_c, rain_percent),
        approximate: false,
        source: "open-meteo.com".into(),
        note: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cities;

    fn read(json: &str) -> Result<Weather, HttpError> {
        weather(cities::find("Oslo").unwrap(), &serde_json::from_str(json).unwrap())
    }

    #[test]
    fn a_forecast_is_read() {
        let weather = read(
            r#"{"latitude": 59.9, "daily": {"time": ["2026-01-05"], "temperature_2m_max": [-1.6], "temperature_2m_min": [-8.2],
                "precipitation_sum": [3.4], "precipitation_probability_max": [71]}}"#,
        )
        .unwrap();
        assert_eq!((weather.high_c, weather.low_c, weather.rain_mm, weather.rain_percent), (-2, -8, 3, 71));
        assert!(!weather.approximate);
    }

    #[test]
    fn without_a_probability_rain_counts_as_rain() {
        let weather = read(
            r#"{"daily": {"temperature_2m_max": [20], "temperature_2m_min": [10], "precipitation_sum": [4],
                "precipitation_probability_max": [null]}}"#,
        );
        assert_eq!(weather.unwrap().rain_percent, 100);
    }

    #[test]
    fn a_forecast_without_days_is_an_error() {
        let empty = r#"{"daily": {"temperature_2m_max": [], "temperature_2m_min": [], "precipitation_sum": [],
            "precipitation_probability_max": []}}"#;
        assert!(matches!(read(empty), Err(HttpError::Protocol(_))));
    }
}
