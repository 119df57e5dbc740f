//! The plugin `files`: reads and writes files under the one folder that the operator granted.
//!
//! Paths are relative to that folder. The host's sandbox lets nothing out of it; this crate refuses such paths too, with
//! words that tell a person why.
#![expect(clippy::needless_pass_by_value, reason = "the form of an action")]

use compozy_sdk::{Context, Json, TaskError, task_plugin};
use serde::{Deserialize, Serialize};

mod folder;
mod path;

use folder::{Entry, Folder};

task_plugin! {
    /// Writes a file, in one step: `text` as it is, or `json` with indentation. Folders on the way are made.
    "write" => write { schema: include_str!("schemas/write.json") },
    /// Reads a text file.
    "read" => read { schema: include_str!("schemas/path.json") },
    /// Lists a folder.
    "list" => list { schema: include_str!("schemas/list.json") },
    /// Deletes a file; tells whether there was one.
    "delete" => delete { schema: include_str!("schemas/path.json") },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WriteIn {
    path: String,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    json: Option<Json>,
}

#[derive(Debug, Serialize)]
struct Written {
    path: String,
    bytes: usize,
}

fn write(input: WriteIn, context: &Context) -> Result<Written, TaskError> {
    let content = match (input.text, input.json) {
        (Some(text), None) => text.into_bytes(),
        (None, Some(json)) => pretty(&json)?,
        (Some(_), Some(_)) => {
            return Err(TaskError::invalid_input("both `text` and `json` are given; a file has one content"));
        }
        (None, None) => return Err(TaskError::invalid_input("there is nothing to write: give `text` or `json`")),
    };
    let path = path::parse(&input.path)?;
    Folder::granted()?.write(&path, &content, &context.idempotency_key)?;
    Ok(Written { path: path.to_string(), bytes: content.len() })
}

fn pretty(json: &Json) -> Result<Vec<u8>, TaskError> {
    let mut content = serde_json::to_vec_pretty(json)
        .map_err(|error| TaskError::invalid_input(format!("`json` cannot be written: {error}")))?;
    content.push(b'\n');
    Ok(content)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PathIn {
    path: String,
}

#[derive(Debug, Serialize)]
struct Read {
    path: String,
    text: String,
    bytes: usize,
}

fn read(input: PathIn, _: &Context) -> Result<Read, TaskError> {
    let path = path::parse(&input.path)?;
    let text = Folder::granted()?.read(&path)?;
    Ok(Read { path: path.to_string(), bytes: text.len(), text })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListIn {
    /// Without it, the granted folder itself.
    #[serde(default)]
    path: Option<String>,
}

#[derive(Debug, Serialize)]
struct Listed {
    entries: Vec<Entry>,
}

fn list(input: ListIn, _: &Context) -> Result<Listed, TaskError> {
    let path = input.path.as_deref().map(path::parse).transpose()?.unwrap_or_default();
    Ok(Listed { entries: Folder::granted()?.list(&path)? })
}

#[derive(Debug, Serialize)]
struct Deleted {
    path: String,
    existed: bool,
}

fn delete(input: PathIn, _: &Context) -> Result<Deleted, TaskError> {
    let path = path::parse(&input.path)?;
    let existed = Folder::granted()?.delete(&path)?;
    Ok(Deleted { path: path.to_string(), existed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_in(text: Option<&str>, json: Option<Json>) -> WriteIn {
        WriteIn { path: "a.txt".into(), text: text.map(str::to_owned), json }
    }

    #[test]
    fn a_file_has_exactly_one_content() {
        for (input, reason) in [
            (write_in(None, None), "give `text` or `json`"),
            (write_in(Some("a"), Some(Json::Null)), "both `text` and `json`"),
        ] {
            let error = write(input, &Context::for_tests()).unwrap_err();
            assert!(error.message().contains(reason), "{error}");
        }
    }

    #[test]
    fn a_path_is_checked_before_the_folder_is_looked_at() {
        let input = PathIn { path: "../etc/passwd".into() };
        assert_eq!(read(input, &Context::for_tests()).unwrap_err().code(), "PATH_NOT_ALLOWED");
    }

    #[test]
    fn without_a_grant_the_error_says_how_to_give_one() {
        // On the machine of a test there is no `/data`, as in a host that granted nothing.
        if !std::path::Path::new(folder::GUEST_PATH).exists() {
            let error = list(ListIn { path: None }, &Context::for_tests()).unwrap_err();
            assert_eq!(error.code(), "FOLDER_NOT_GRANTED");
            assert!(error.message().contains("compozy.yaml") && error.message().contains("guest: /data"), "{error}");
        }
    }

    #[test]
    fn json_is_indented_and_keeps_its_order() {
        let json: Json = serde_json::from_str(r#"{"z": 1, "a": ["b"]}"#).unwrap();
        assert_eq!(pretty(&json).unwrap(), b"{\n  \"z\": 1,\n  \"a\": [\n    \"b\"\n  ]\n}\n");
    }

    #[test]
    fn schemas_are_json_objects() {
        for schema in
            [include_str!("schemas/write.json"), include_str!("schemas/path.json"), include_str!("schemas/list.json")]
        {
            let schema: Json = serde_json::from_str(schema).unwrap();
            assert_eq!(schema["type"], "object");
        }
    }
}
