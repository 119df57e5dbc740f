//! What is measured: one workflow of three trivial tasks, in a project of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, anyhow};
use compozy_plan::plan::Plan;
use compozy_plan::{Project, SourceFile, compile_workflow};

/// The workflow's id.
pub(crate) const WORKFLOW: &str = "steps3";

const WORKFLOW_TEXT: &str = "id: steps3
version: 0.1.0
tools: [{id: echo, plugin: echo, action: echo}]
tasks:
  - {id: a, tool: echo, with: {n: \"{{ .input.n }}\"}}
  - {id: b, tool: echo, with: {n: \"{{ .tasks.a.output.n }}\"}}
  - {id: c, tool: echo, with: {n: \"{{ .tasks.b.output.n }}\"}}
outputs: {n: \"{{ .tasks.c.output.n }}\"}
";

/// A project and folders for data.
pub(crate) struct Setting {
    scratch: PathBuf,
    /// The project's folder.
    pub(crate) project: PathBuf,
    /// Folder of the plugin.
    pub(crate) plugin: PathBuf,
}

impl Setting {
    pub(crate) fn new(scratch: &Path) -> Result<Self> {
        let project = scratch.join("project");
        std::fs::create_dir_all(&project)?;
        std::fs::write(project.join("steps3.yaml"), WORKFLOW_TEXT)?;
        let settings = "name: bench\nversion: 0.1.0\nworkflows: [{source: ./steps3.yaml}]\n";
        std::fs::write(project.join("compozy.yaml"), settings)?;
        let plugin = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("guests/echo").canonicalize()?;
        Ok(Self { scratch: scratch.to_path_buf(), project, plugin })
    }

    /// A folder of its own.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.scratch.join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

/// The measured workflow.
pub(crate) fn plan() -> Result<Arc<Plan>> {
    compile(WORKFLOW_TEXT)
}

/// A workflow of one task.
pub(crate) fn one_task() -> Result<Arc<Plan>> {
    compile("id: one\ntools: [{id: echo, plugin: echo}]\ntasks: [{id: a, tool: echo, with: {n: 1}}]\n")
}

fn compile(text: &str) -> Result<Arc<Plan>> {
    let file = SourceFile { path: "bench.yaml".to_owned(), text: text.to_owned() };
    let outcome = compile_workflow(&file, &Project::default(), None);
    outcome.value.map(Arc::new).ok_or_else(|| anyhow!("{:?}", outcome.diagnostics))
}
