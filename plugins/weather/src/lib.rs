//! The plugin `weather`: what the weather of a city is like, and what to do and to wear in it.
//!
//! Everything is decided by tables and rules in this crate, so the same input gives the same output. Only `climate` with
//! `live: true` asks somebody else, and falls back to its table when it may not or cannot.
#![expect(clippy::needless_pass_by_value, clippy::unnecessary_wraps, reason = "the form of an action")]

use compozy_sdk::{Context, TaskError, info, task_plugin};
use serde::{Deserialize, Serialize};

mod activities;
mod cities;
mod clothing;
mod live;
mod weather;

use weather::Weather;

task_plugin! {
    /// Tells the climate of a city, of one month or of the whole year; with `live: true` today's forecast.
    "climate" => climate { schema: include_str!("schemas/climate.json") },
    /// Suggests activities for the weather.
    "activities" => suggest_activities { schema: include_str!("schemas/weather.json") },
    /// Rates one activity in the weather.
    "analyze_activity" => analyze_activity { schema: include_str!("schemas/analyze_activity.json") },
    /// Suggests clothes for the weather, from the tool's `wardrobe` when its config has one.
    "clothing" => suggest_clothing { schema: include_str!("schemas/weather.json") },
    /// Checks one piece of clothing against the weather.
    "validate_clothing" => validate_clothing { schema: include_str!("schemas/validate_clothing.json") },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    city: String,
    /// 1 to 12; without it the average of the year.
    #[serde(default)]
    month: Option<u8>,
    /// In place of the tool's own setting.
    #[serde(default)]
    live: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClimateConfig {
    #[serde(default)]
    live: bool,
}

fn climate(place: Place, context: &Context) -> Result<Weather, TaskError> {
    let city = cities::find(&place.city)?;
    let averages = Weather::of_climate(city, place.month)?;
    if !place.live.unwrap_or(context.config::<ClimateConfig>()?.live) {
        return Ok(averages);
    }
    live::forecast(city).or_else(|reason| {
        info!("live weather is not to be had, climate averages are used", city = city.name, reason = reason);
        Ok(averages.with_note(format!("live data was not to be had, so these are averages: {reason}")))
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct In {
    weather: Weather,
}

#[derive(Serialize)]
struct Activities {
    activities: Vec<&'static str>,
}

fn suggest_activities(input: In, _: &Context) -> Result<Activities, TaskError> {
    Ok(Activities { activities: activities::suggest(&input.weather) })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActivityIn {
    activity: String,
    weather: Weather,
}

fn analyze_activity(input: ActivityIn, _: &Context) -> Result<activities::Analysis, TaskError> {
    activities::analyze(&input.activity, &input.weather)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClothingConfig {
    #[serde(default)]
    wardrobe: Option<Vec<String>>,
}

#[derive(Serialize)]
struct Clothes {
    clothes: Vec<&'static str>,
}

fn suggest_clothing(input: In, context: &Context) -> Result<Clothes, TaskError> {
    let ClothingConfig { wardrobe } = context.config()?;
    Ok(Clothes { clothes: clothing::suggest(&input.weather, wardrobe.as_deref())? })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClothingIn {
    item: String,
    weather: Weather,
}

fn validate_clothing(input: ClothingIn, _: &Context) -> Result<clothing::Validation, TaskError> {
    clothing::validate(&input.item, &input.weather)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lisbon(live: Option<bool>) -> Place {
        Place { city: "Lisbon".into(), month: Some(7), live }
    }

    #[test]
    fn without_the_grant_live_data_falls_back_and_says_so() {
        // A native test has no network of the host's, which is what a plugin without the grant sees.
        let averages = climate(lisbon(None), &Context::for_tests()).unwrap();
        let fallback = climate(lisbon(Some(true)), &Context::for_tests()).unwrap();
        assert_eq!(averages.note, None);
        assert!(fallback.note.as_deref().unwrap().starts_with("live data was not to be had"));
        assert_eq!(Weather { note: None, ..fallback }, averages);
    }

    #[test]
    fn the_input_decides_over_the_config() {
        let context = Context::for_tests().with_config(&serde_json::json!({ "live": true }));
        assert!(climate(lisbon(None), &context).unwrap().note.is_some());
        assert!(climate(lisbon(Some(false)), &context).unwrap().note.is_none());
    }

    #[test]
    fn what_one_action_answers_the_others_take() {
        let context = Context::for_tests();
        let weather = climate(lisbon(None), &context).unwrap();
        let again: In = serde_json::from_value(serde_json::json!({ "weather": weather })).unwrap();
        let suggested = suggest_activities(again, &context).unwrap().activities;
        assert!(suggested.len() >= 3, "{suggested:?}");
        for activity in suggested {
            let input = ActivityIn { activity: activity.into(), weather: weather.clone() };
            assert_eq!(analyze_activity(input, &context).unwrap().activity, activity);
        }
        for item in suggest_clothing(In { weather: weather.clone() }, &context).unwrap().clothes {
            let input = ClothingIn { item: item.into(), weather: weather.clone() };
            assert_eq!(validate_clothing(input, &context).unwrap().item, item);
        }
    }

    #[test]
    fn schemas_are_json_objects() {
        for schema in [
            include_str!("schemas/climate.json"),
            include_str!("schemas/weather.json"),
            include_str!("schemas/analyze_activity.json"),
            include_str!("schemas/validate_clothing.json"),
        ] {
            let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
            assert_eq!(schema["type"], "object");
        }
    }
}
