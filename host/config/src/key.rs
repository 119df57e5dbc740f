//! What there is to know about a key.

/// A key of the configuration. All that is said of it anywhere is made of this.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Where it is in `compozy.yaml`, for example `engine.temporal.address`. `*` stands for a name.
    pub path: &'static str,
    /// What its value can be.
    pub kind: Kind,
    /// What holds when nobody says anything.
    pub preset: Preset,
    /// What it does, for a person. The first sentence stands alone.
    pub doc: &'static str,
    /// A value, as it is written in the file.
    pub example: &'static str,
    /// The option of the command line that sets it beside `--set`.
    pub flag: Option<&'static str>,
    /// Who may set it.
    pub scope: Scope,
}

/// What a value can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text that is not empty.
    Text,
    /// A name of letters, digits, `-`, `_` and `.`.
    Name,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of these words, none twice.
    Words(&'static [&'static str]),
    /// `true` or `false`.
    Switch,
    /// An integer.
    Count {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// A time with its unit, in milliseconds here.
    Time {
        /// The shortest, in milliseconds.
        min: u64,
        /// The longest, in milliseconds.
        max: u64,
    },
    /// A path. In the file, it is relative to the file's folder; elsewhere, to the current one.
    Path,
    /// A list of paths.
    Paths,
    /// A list of names.
    Names,
    /// `HOST:PORT` to listen on.
    Listen,
    /// A URL with one of these schemes, without user and password.
    Url(&'static [&'static str]),
    /// A text that is never shown: itself, or where to find it.
    Secret,
    /// A list of texts that the project's reader checks.
    Texts,
    /// A list of mappings that the project's reader checks.
    Folders,
}

/// What holds when nobody says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// This value, as it would be written on a command line.
    Is(&'static str),
    /// One value when standalone, the other when distributed.
    ByMode(&'static str, &'static str),
    /// The name of the project, or this when it has none.
    ProjectName(&'static str),
    /// Nothing; in words what that means.
    Unset(&'static str),
}

/// Who may set a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// File, environment and command line.
    Everywhere,
    /// The project file alone. The project's reader (`compozy-plan`) reads and checks it, because it becomes a part of
    /// plans, or says what a plugin may do, which nobody shall be able to widen in passing.
    File,
}

impl Key {
    /// Declares a key that all sources may set.
    pub(crate) const fn new(path: &'static str, kind: Kind, preset: Preset, doc: &'static str) -> Self {
        Self { path, kind, preset, doc, example: "", flag: None, scope: Scope::Everywhere }
    }

    pub(crate) const fn example(mut self, example: &'static str) -> Self {
        self.example = example;
        self
    }

    pub(crate) const fn flag(mut self, flag: &'static str) -> Self {
        self.flag = Some(flag);
        self
    }

    pub(crate) const fn in_file(mut self) -> Self {
        self.scope = Scope::File;
        self
    }

    /// Its name in the environment: `COMPOZY_` and the path in capitals, with `_` for every dot and hyphen. `None` for keys of the
    /// file alone. A key that ends with a name takes `NAME=VALUE,...` there.
    pub fn environment(&self) -> Option<String> {
        if self.scope == Scope::File {
            return None;
        }
        let path = self.path.strip_suffix(".*").unwrap_or(self.path);
        Some(format!("{ENVIRONMENT_PREFIX}{}", path.to_uppercase().replace(['.', '-'], "_")))
    }

    /// Whether the path, with names in it, is one of this key.
    pub fn matches(&self, path: &str) -> bool {
        // A name may have dots in it, but no key goes on behind one that may.
        let mut parts = self.path.split('.').peekable();
        let mut rest = path;
        while let Some(part) = parts.next() {
            let last = parts.peek().is_none();
            let (here, after) = match rest.split_once('.') {
                Some((here, after)) if !(last && part == "*") => (here, Some(after)),
                _ => (rest, None),
            };
            if part != here && (part != "*" || here.is_empty()) {
                return false;
            }
            match (last, after) {
                (true, after) => return after.is_none(),
                (false, None) => return false,
                (false, Some(after)) => rest = after,
            }
        }
        false
    }

    /// Whether it stands for many keys.
    pub fn is_pattern(&self) -> bool {
        self.path.contains('*')
    }
}

/// What all names in the environment begin with.
pub const ENVIRONMENT_PREFIX: &str = "COMPOZY_";

/// A mapping of the file that has keys below it.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Where it is.
    pub path: &'static str,
    /// What an entry of it is called in messages.
    pub noun: &'static str,
    /// What it is about, for a person.
    pub doc: &'static str,
}
