//! Sources made of texts.

use std::collections::BTreeMap;
use std::path::Path;

use compozy_config::{Assignment, Given, Loaded, Sources, read};
use compozy_plan::SourceFile;

/// What an operator wrote, in three places.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Case<'a> {
    pub(crate) file: &'a str,
    pub(crate) environment: &'a [(&'a str, &'a str)],
    pub(crate) flags: &'a [(&'a str, &'a str)],
}

impl Case<'_> {
    /// Reads it. The file `secrets/one` holds `from-a-file`, `empty` nothing, `large` too much; there are no others.
    pub(crate) fn read(&self) -> Loaded {
        let file = SourceFile { path: "p/compozy.yaml".to_owned(), text: self.file.to_owned() };
        let environment: BTreeMap<String, String> =
            self.environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let assign = |(key, value): &(&str, &str)| Assignment {
            key: (*key).to_owned(),
            value: Given::Text((*value).to_owned()),
            option: "--set",
        };
        let flags: Vec<Assignment> = self.flags.iter().map(assign).collect();
        let read_secret = |path: &Path| match path.to_str() {
            Some("p/secrets/one") => Ok("from-a-file\r\n".to_owned()),
            Some("p/empty") => Ok("\n".to_owned()),
            Some("p/large") => Ok("x".repeat(70_000)),
            _ => Err("no such file".to_owned()),
        };
        read(&Sources {
            file: (!self.file.is_empty()).then_some(&file),
            folder: Path::new("p"),
            environment: &environment,
            flags: &flags,
            read_secret: &read_secret,
        })
    }

    /// The same, without any problem.
    pub(crate) fn good(&self) -> Loaded {
        let loaded = self.read();
        assert!(loaded.problems.is_empty(), "{self:?}: {}", told(&loaded));
        loaded
    }
}

/// Only a file.
pub(crate) fn file(text: &str) -> Case<'_> {
    Case { file: text, ..Case::default() }
}

/// All problems as a person sees them.
pub(crate) fn told(loaded: &Loaded) -> String {
    loaded.problems.iter().map(|problem| format!("{problem}\n")).collect()
}
