//! Takes mappings apart: every key is asked for by name, and what nobody asked for is a problem.

use crate::diagnostic::{Position, Problems};
use crate::limits::ID_CHARS_MAX;
use crate::suggest::{cut, hint};
use crate::yaml::{Data, Key, Node};

/// Keys of the full format that this version knows and does not act on, with what to say about them.
pub(crate) type Unsupported = [(&'static str, &'static str)];

/// The fields of one mapping.
pub(crate) struct Fields<'n> {
    /// What the mapping is, for messages: "the task `a`".
    pub(crate) what: String,
    pub(crate) at: Position,
    entries: Vec<(&'n Key, &'n Node, bool)>,
    known: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// `None`, and a problem, when the node is no mapping.
    pub(crate) fn of(node: &'n Node, what: impl Into<String>, problems: &mut Problems) -> Option<Self> {
        let what = what.into();
        let Data::Map(fields) = &node.data else {
            wrong_type(problems, node, &what, "a mapping");
            return None;
        };
        let entries = fields.iter().map(|(key, node)| (key, node, false)).collect();
        Some(Self { what, at: node.at, entries, known: Vec::new() })
    }

    /// The field, also when it is empty.
    pub(crate) fn raw(&mut self, name: &'static str) -> Option<(&'n Key, &'n Node)> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        let mut found = None;
        for (key, node, used) in &mut self.entries {
            if key.name == name {
                *used = true;
                found = Some((*key, *node));
            }
        }
        found
    }

    /// The field; an empty one counts as missing.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<&'n Node> {
        self.raw(name).map(|(_, node)| node).filter(|node| !matches!(node.data, Data::Null))
    }

    pub(crate) fn text(&mut self, name: &'static str, problems: &mut Problems) -> Option<(&'n str, &'n Node)> {
        let node = self.take(name)?;
        if let Data::Text(text) = &node.data {
            return Some((text, node));
        }
        let what = format!("`{name}` of {}", self.what);
        wrong_type(problems, node, &what, "a text");
        None
    }

    /// A text that must be there and not be empty.
    pub(crate) fn required_text(&mut self, name: &'static str, problems: &mut Problems) -> Option<(&'n str, &'n Node)> {
        let there = self.has(name);
        let found = self.text(name, problems);
        match found {
            Some((text, node)) if text.trim().is_empty() => {
                problems.error(node.at, "PLAN_MISSING_KEY", format!("`{name}` of {} is empty", self.what));
                None
            }
            None if !there => {
                self.missing(name, problems);
                None
            }
            found => found,
        }
    }

    pub(crate) fn missing(&self, name: &str, problems: &mut Problems) {
        problems
            .error(self.at, "PLAN_MISSING_KEY", format!("{} has no `{name}`", self.what))
            .help(format!("add `{name}: ...`"));
    }

    /// Whether the field is there and not empty.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, node, _)| key.name == name && !matches!(node.data, Data::Null))
    }

    pub(crate) fn boolean(&mut self, name: &'static str, problems: &mut Problems) -> Option<bool> {
        let node = self.take(name)?;
        if let Data::Bool(value) = node.data {
            return Some(value);
        }
        let what = format!("`{name}` of {}", self.what);
        wrong_type(problems, node, &what, "true or false");
        None
    }

    pub(crate) fn integer(
        &mut self,
        name: &'static str,
        min: u64,
        max: u64,
        problems: &mut Problems,
    ) -> Option<(u64, &'n Node)> {
        let node = self.take(name)?;
        let what = format!("`{name}` of {}", self.what);
        let Data::Number(number) = &node.data else {
            wrong_type(problems, node, &what, "an integer");
            return None;
        };
        if let Some(value) = number.as_u64().filter(|value| (min..=max).contains(value)) {
            Some((value, node))
        } else {
            problems
                .error(
                    node.at,
                    "PLAN_OUT_OF_RANGE",
                    format!("{what} must be an integer from {min} to {max} but is {number}"),
                )
                .value(&number.to_string());
            None
        }
    }

    pub(crate) fn list(&mut self, name: &'static str, problems: &mut Problems) -> Option<(&'n [Node], &'n Node)> {
        let node = self.take(name)?;
        if let Data::List(items) = &node.data {
            return Some((items, node));
        }
        let what = format!("`{name}` of {}", self.what);
        wrong_type(problems, node, &what, "a list");
        None
    }

    pub(crate) fn texts(&mut self, name: &'static str, problems: &mut Problems) -> Vec<(&'n str, &'n Node)> {
        let mut texts = Vec::new();
        for item in self.list(name, problems).map_or(&[][..], |(items, _)| items) {
            match &item.data {
                Data::Text(text) => texts.push((text.as_str(), item)),
                _ => wrong_type(problems, item, &format!("an item of `{name}` of {}", self.what), "a text"),
            }
        }
        texts
    }

    pub(crate) fn fields(&mut self, name: &'static str, problems: &mut Problems) -> Option<Fields<'n>> {
        let node = self.take(name)?;
        Fields::of(node, format!("`{name}` of {}", self.what), problems)
    }

    /// One of several words.
    pub(crate) fn word(
        &mut self,
        name: &'static str,
        words: &[&'static str],
        problems: &mut Problems,
    ) -> Option<(&'static str, &'n Node)> {
        let (text, node) = self.text(name, problems)?;
        if let Some(word) = words.iter().find(|word| **word == text) {
            return Some((word, node));
        }
        problems
            .error(node.at, "PLAN_UNKNOWN_VALUE", format!("`{name}` of {} cannot be `{}`", self.what, cut(text)))
            .value(text)
            .help(hint(text, "it is one of", words));
        None
    }

    /// An id or a name.
    pub(crate) fn id(&mut self, name: &'static str, problems: &mut Problems) -> Option<(&'n str, &'n Node)> {
        let (text, node) = self.required_text(name, problems)?;
        let length = text.chars().count();
        let allowed = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        if allowed && length <= ID_CHARS_MAX && !text.starts_with('-') {
            return Some((text, node));
        }
        problems
            .error(node.at, "PLAN_INVALID_ID", format!("`{}` cannot be the `{name}` of {}", cut(text), self.what))
            .value(text)
            .help(format!(
                "use letters, digits, `-` and `_`, at most {ID_CHARS_MAX} characters, and begin with no `-`"
            ));
        None
    }

    /// Marks keys as not supported, and reports those that are there.
    pub(crate) fn unsupported(&mut self, keys: &Unsupported, problems: &mut Problems) {
        for (key, _, used) in &mut self.entries {
            let Some((_, reason)) = keys.iter().find(|(name, _)| *name == key.name) else { continue };
            if !*used {
                *used = true;
                problems
                    .error(key.at, "PLAN_UNSUPPORTED", format!("`{}` of {} is not yet supported", key.name, self.what))
                    .value(&key.name)
                    .help(if reason.is_empty() { "remove it" } else { reason });
            }
        }
    }

    /// Reports the keys that nobody asked for.
    pub(crate) fn finish(self, problems: &mut Problems) {
        for (key, _, used) in &self.entries {
            if !used {
                problems
                    .error(key.at, "PLAN_UNKNOWN_KEY", format!("unknown key `{}` in {}", cut(&key.name), self.what))
                    .value(&key.name)
                    .help(hint(&key.name, "known keys", &self.known));
            }
        }
    }

    /// All fields, for mappings whose keys are names.
    pub(crate) fn into_entries(self) -> impl Iterator<Item = (&'n Key, &'n Node)> {
        self.entries.into_iter().map(|(key, node, _)| (key, node))
    }
}

pub(crate) fn wrong_type(problems: &mut Problems, node: &Node, what: &str, wanted: &str) {
    let mut message = format!("{what} must be {wanted} but is {}", node.described());
    let shown = node.shown();
    if let Some(shown) = &shown {
        message = format!("{message} (`{}`)", cut(shown));
    }
    let help = match (&node.data, wanted) {
        (Data::Number(_) | Data::Bool(_), "a text") => Some("put it in quotes".to_owned()),
        (Data::Text(text), "a mapping") if text.contains(':') => {
            Some("put a space after the colon, and each key on its own line".to_owned())
        }
        _ => None,
    };
    let added = problems.error(node.at, "PLAN_WRONG_TYPE", message).maybe_help(help);
    if let Some(shown) = shown {
        added.value(&shown);
    }
}
