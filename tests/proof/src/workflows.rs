//! Workflows from their texts.

use std::collections::BTreeMap;
use std::sync::Arc;

use compozy_plan::plan::Plan;
use compozy_plan::{Project, SourceFile, compile_workflow};

/// Compiles workflows that know each other; each has one tool, `tool`.
///
/// # Panics
/// When one has a mistake.
pub(crate) fn compile(files: &[(&str, &str)]) -> BTreeMap<String, Arc<Plan>> {
    let compiled = files.iter().map(|(id, rest)| {
        let text = format!("id: {id}\nversion: 0.1.0\ntools: [{{id: tool, plugin: test}}]\n{rest}");
        let file = SourceFile { path: format!("{id}.yaml"), text };
        let outcome = compile_workflow(&file, &Project::default(), None);
        let plan = outcome.value.unwrap_or_else(|| panic!("{}\n{:?}", file.text, outcome.diagnostics));
        ((*id).to_owned(), Arc::new(plan))
    });
    compiled.collect()
}
