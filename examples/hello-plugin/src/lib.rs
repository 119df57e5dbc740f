use compozy_sdk::{Context, Json, TaskError, json, task_plugin};

#[derive(serde::Deserialize)]
struct Input {
    name: String,
}

fn greet(input: Input, _: &Context) -> Result<Json, TaskError> {
    Ok(json!({ "greeting": format!("Hello, {}!", input.name) }))
}

task_plugin! {
    /// Greets someone by name.
    "greet" => greet,
}
