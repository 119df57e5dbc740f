//! The cities and their climate: averages of about three decades, rounded, good enough to decide on a coat.

use compozy_sdk::TaskError;
use serde_json::json;

/// Longest name of a city that is looked for, in bytes.
const CITY_BYTES_MAX: usize = 100;
/// How many known names an error suggests.
const NEAREST_MAX: usize = 3;

/// A city. Arrays go from January to December.
#[derive(Debug)]
pub(crate) struct City {
    pub(crate) name: &'static str,
    pub(crate) country: &'static str,
    /// Other names, folded.
    aliases: &'static [&'static str],
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
    /// Usual highest temperature of a day, in degrees Celsius.
    pub(crate) high_c: [i16; 12],
    /// Usual lowest temperature of a day, in degrees Celsius.
    pub(crate) low_c: [i16; 12],
    /// Rain (or melted snow) in millimetres.
    pub(crate) rain_mm: [i16; 12],
    /// Days with at least 1 mm of it.
    pub(crate) rainy_days: [i16; 12],
}

/// The city of this name, whatever its case and accents.
pub(crate) fn find(name: &str) -> Result<&'static City, TaskError> {
    if name.len() > CITY_BYTES_MAX {
        return Err(TaskError::invalid_input(format!(
            "`city` is {} bytes long; a name has at most {CITY_BYTES_MAX}",
            name.len()
        )));
    }
    let wanted = fold(name);
    if wanted.is_empty() {
        return Err(TaskError::invalid_input(format!("`city` is \"{name}\", which has no letters")));
    }
    ALL.iter()
        .find(|city| fold(city.name) == wanted || city.aliases.contains(&wanted.as_str()))
        .ok_or_else(|| unknown(name, &wanted))
}

fn unknown(name: &str, wanted: &str) -> TaskError {
    let known: Vec<&str> = ALL.iter().map(|city| city.name).collect();
    let mut nearest: Vec<(usize, &str)> =
        known.iter().map(|known| (strsim::damerau_levenshtein(&fold(known), wanted), *known)).collect();
    // Half of the letters may be wrong; what is farther away was not meant.
    nearest.retain(|(distance, known)| *distance * 2 <= known.chars().count().max(wanted.len()));
    nearest.sort_unstable();
    nearest.truncate(NEAREST_MAX);
    let nearest: Vec<&str> = nearest.into_iter().map(|(_, name)| name).collect();
    let hint = match nearest.first() {
        Some(first) => format!(" Did you mean `{first}`?"),
        None => String::new(),
    };
    TaskError::failed(
        "CITY_UNKNOWN",
        format!("there is no climate for the city `{name}`.{hint} There are: {}", known.join(", ")),
    )
    .with_details(json!({ "city": name, "nearest": nearest, "known": known }))
}

/// Lower case without accents; anything but letters and digits counts as one space.
fn fold(name: &str) -> String {
    let mut folded = String::with_capacity(name.len());
    for letter in name.chars().flat_map(char::to_lowercase) {
        let plain = match letter {
            'á' | 'à' | 'â' | 'ã' | 'ä' | 'å' | 'ā' => 'a',
            'ç' | 'č' | 'ć' => 'c',
            'é' | 'è' | 'ê' | 'ë' | 'ē' | 'ě' => 'e',
            'í' | 'ì' | 'î' | 'ï' | 'ī' => 'i',
            'ñ' | 'ń' => 'n',
            'ó' | 'ò' | 'ô' | 'õ' | 'ö' | 'ø' | 'ō' => 'o',
            'ú' | 'ù' | 'û' | 'ü' | 'ū' => 'u',
            'ý' | 'ÿ' => 'y',
            'š' => 's',
            'ž' => 'z',
            // Accents that come as characters of their own.
            '\u{300}'..='\u{36f}' => continue,
            other if other.is_alphanumeric() => other,
            _ if folded.ends_with(' ') || folded.is_empty() => continue,
            _ => ' ',
        };
        folded.push(plain);
    }
    folded.truncate(folded.trim_end().len());
    folded
}

/// All cities, by name.
#[rustfmt::skip] // one line per row of the table
pub(crate) const ALL: &[City] = &[
    City {
        name: "Berlin",
        country: "Germany",
        aliases: &[],
        latitude: 52.52,
        longitude: 13.41,
        high_c: [3, 5, 9, 15, 20, 23, 25, 25, 20, 14, 8, 4],
        low_c: [-2, -1, 1, 5, 9, 13, 15, 14, 11, 6, 2, -1],
        rain_mm: [45, 35, 40, 35, 55, 65, 70, 60, 45, 40, 45, 50],
        rainy_days: [10, 8, 9, 7, 9, 10, 10, 9, 8, 8, 9, 10],
    },
    City {
        name: "Cairo",
        country: "Egypt",
        aliases: &[],
        latitude: 30.04,
        longitude: 31.24,
        high_c: [19, 21, 24, 29, 33, 35, 36, 35, 34, 30, 25, 20],
        low_c: [9, 10, 12, 15, 18, 21, 23, 23, 21, 18, 14, 10],
        rain_mm: [5, 4, 4, 1, 0, 0, 0, 0, 0, 1, 3, 6],
        rainy_days: [2, 2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2],
    },
    City {
        name: "Lisbon",
        country: "Portugal",
        aliases: &["lisboa"],
        latitude: 38.72,
        longitude: -9.14,
        high_c: [15, 16, 19, 20, 23, 26, 28, 29, 27, 23, 18, 15],
        low_c: [8, 9, 11, 12, 14, 17, 18, 19, 18, 15, 12, 9],
        rain_mm: [100, 85, 55, 65, 55, 15, 5, 5, 30, 100, 130, 125],
        rainy_days: [10, 9, 7, 8, 6, 2, 1, 1, 4, 9, 11, 11],
    },
    City {
        name: "London",
        country: "United Kingdom",
        aliases: &["londres"],
        latitude: 51.51,
        longitude: -0.13,
        high_c: [8, 9, 11, 15, 18, 21, 23, 23, 20, 16, 11, 9],
        low_c: [2, 2, 4, 5, 8, 11, 14, 14, 11, 8, 5, 3],
        rain_mm: [55, 40, 40, 45, 45, 50, 45, 55, 50, 65, 65, 55],
        rainy_days: [11, 9, 9, 9, 8, 8, 8, 8, 8, 11, 11, 11],
    },
    City {
        name: "Madrid",
        country: "Spain",
        aliases: &[],
        latitude: 40.42,
        longitude: -3.7,
        high_c: [10, 12, 16, 19, 23, 29, 33, 32, 27, 20, 14, 10],
        low_c: [3, 4, 6, 8, 12, 17, 20, 19, 16, 11, 6, 3],
        rain_mm: [33, 35, 25, 45, 50, 20, 10, 10, 22, 60, 58, 51],
        rainy_days: [6, 5, 4, 7, 7, 3, 2, 2, 3, 7, 7, 7],
    },
    City {
        name: "Nairobi",
        country: "Kenya",
        aliases: &[],
        latitude: -1.29,
        longitude: 36.82,
        high_c: [26, 27, 27, 25, 24, 23, 22, 23, 25, 26, 24, 25],
        low_c: [12, 13, 14, 15, 14, 12, 11, 12, 12, 14, 14, 13],
        rain_mm: [75, 60, 100, 210, 160, 45, 20, 25, 30, 60, 150, 100],
        rainy_days: [5, 5, 9, 16, 13, 5, 4, 4, 4, 8, 15, 9],
    },
    City {
        name: "New York",
        country: "United States",
        aliases: &["nyc", "new york city"],
        latitude: 40.71,
        longitude: -74.01,
        high_c: [4, 6, 10, 16, 22, 27, 29, 28, 25, 18, 12, 7],
        low_c: [-3, -2, 2, 7, 13, 18, 21, 20, 17, 10, 5, 0],
        rain_mm: [92, 81, 109, 104, 100, 115, 117, 116, 109, 111, 91, 111],
        rainy_days: [11, 10, 11, 11, 12, 11, 11, 10, 9, 9, 9, 11],
    },
    City {
        name: "Oslo",
        country: "Norway",
        aliases: &[],
        latitude: 59.91,
        longitude: 10.75,
        high_c: [0, 1, 5, 10, 16, 20, 22, 21, 16, 9, 4, 1],
        low_c: [-5, -5, -2, 1, 7, 11, 13, 12, 8, 3, -1, -4],
        rain_mm: [55, 40, 40, 45, 60, 75, 85, 100, 85, 90, 80, 60],
        rainy_days: [10, 8, 8, 8, 9, 10, 11, 11, 10, 11, 11, 10],
    },
    City {
        name: "Paris",
        country: "France",
        aliases: &[],
        latitude: 48.86,
        longitude: 2.35,
        high_c: [8, 9, 13, 16, 20, 24, 26, 26, 22, 17, 11, 8],
        low_c: [3, 3, 6, 8, 11, 14, 16, 16, 13, 10, 6, 4],
        rain_mm: [45, 40, 45, 45, 65, 55, 60, 55, 45, 60, 55, 60],
        rainy_days: [10, 9, 9, 9, 10, 8, 7, 7, 7, 9, 10, 11],
    },
    City {
        name: "Rome",
        country: "Italy",
        aliases: &["roma"],
        latitude: 41.9,
        longitude: 12.5,
        high_c: [12, 13, 16, 19, 24, 28, 31, 31, 27, 22, 17, 13],
        low_c: [3, 4, 6, 8, 13, 16, 19, 19, 16, 12, 8, 4],
        rain_mm: [70, 75, 60, 65, 50, 35, 20, 35, 75, 95, 115, 90],
        rainy_days: [8, 8, 8, 9, 6, 4, 2, 3, 6, 8, 9, 9],
    },
    City {
        name: "San Francisco",
        country: "United States",
        aliases: &["sf"],
        latitude: 37.77,
        longitude: -122.42,
        high_c: [14, 16, 17, 18, 19, 20, 20, 21, 22, 21, 17, 14],
        low_c: [8, 9, 9, 10, 11, 12, 13, 13, 13, 12, 10, 8],
        rain_mm: [115, 110, 80, 38, 18, 5, 0, 2, 5, 25, 80, 110],
        rainy_days: [11, 11, 10, 6, 3, 1, 0, 0, 1, 4, 8, 11],
    },
    City {
        name: "São Paulo",
        country: "Brazil",
        aliases: &[],
        latitude: -23.55,
        longitude: -46.63,
        high_c: [28, 29, 28, 27, 24, 23, 23, 25, 25, 26, 27, 28],
        low_c: [19, 20, 19, 18, 15, 14, 13, 14, 15, 17, 18, 19],
        rain_mm: [290, 250, 230, 90, 70, 60, 50, 35, 85, 125, 145, 230],
        rainy_days: [17, 15, 14, 8, 7, 5, 5, 5, 8, 10, 11, 15],
    },
    City {
        name: "Singapore",
        country: "Singapore",
        aliases: &[],
        latitude: 1.29,
        longitude: 103.85,
        high_c: [30, 31, 32, 32, 32, 32, 31, 31, 31, 32, 31, 30],
        low_c: [24, 24, 25, 25, 26, 25, 25, 25, 25, 25, 24, 24],
        rain_mm: [235, 115, 170, 155, 170, 135, 150, 155, 155, 155, 265, 315],
        rainy_days: [13, 9, 12, 14, 14, 13, 14, 14, 13, 15, 18, 18],
    },
    City {
        name: "Sydney",
        country: "Australia",
        aliases: &[],
        latitude: -33.87,
        longitude: 151.21,
        high_c: [27, 27, 25, 23, 20, 18, 17, 19, 21, 23, 24, 26],
        low_c: [20, 20, 18, 15, 12, 9, 8, 9, 12, 14, 16, 18],
        rain_mm: [92, 132, 117, 115, 100, 142, 80, 75, 65, 68, 90, 73],
        rainy_days: [8, 9, 10, 9, 9, 9, 7, 6, 7, 8, 9, 8],
    },
    City {
        name: "Tokyo",
        country: "Japan",
        aliases: &[],
        latitude: 35.68,
        longitude: 139.69,
        high_c: [10, 11, 14, 19, 24, 26, 30, 31, 27, 22, 17, 12],
        low_c: [1, 2, 5, 10, 15, 19, 23, 24, 20, 15, 9, 4],
        rain_mm: [60, 57, 116, 134, 140, 168, 156, 155, 225, 235, 96, 58],
        rainy_days: [5, 6, 10, 10, 10, 12, 11, 9, 12, 11, 8, 5],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_accents_and_separators_do_not_matter() {
        for (name, found) in [
            ("Lisbon", "Lisbon"),
            ("LISBOA", "Lisbon"),
            ("são paulo", "São Paulo"),
            ("Sao-Paulo", "São Paulo"),
            ("Sa\u{303}o Paulo", "São Paulo"),
            ("  new   york ", "New York"),
            ("NYC", "New York"),
        ] {
            assert_eq!(find(name).unwrap().name, found, "{name}");
        }
    }

    #[test]
    fn an_unknown_city_is_answered_with_the_nearest_and_the_known() {
        let error = find("Lisbn").unwrap_err();
        assert_eq!(error.code(), "CITY_UNKNOWN");
        let message = error.message();
        assert!(message.contains("`Lisbn`") && message.contains("Did you mean `Lisbon`?"), "{message}");
        assert!(ALL.iter().all(|city| message.contains(city.name)), "{message}");
        assert!(!error.is_retryable());
    }

    #[test]
    fn a_city_that_is_like_no_other_gets_no_suggestion() {
        let error = find("Ouagadougou").unwrap_err();
        assert!(!error.message().contains("Did you mean"), "{error}");
    }

    #[test]
    fn a_name_that_cannot_be_one_is_invalid_input() {
        for name in ["", "  ", "!?", &"x".repeat(CITY_BYTES_MAX + 1)] {
            assert_eq!(find(name).unwrap_err().code(), "INVALID_INPUT", "{name}");
        }
    }

    #[test]
    fn names_are_sorted_and_no_two_cities_share_one() {
        let mut names: Vec<String> =
            ALL.iter().flat_map(|city| city.aliases.iter().map(ToString::to_string).chain([fold(city.name)])).collect();
        assert!(ALL.is_sorted_by_key(|city| fold(city.name)));
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
