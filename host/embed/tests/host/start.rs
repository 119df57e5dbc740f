//! A start that fails says all that is wrong.

use compozy_embed::{HostBuilder, StartError};

use crate::common::small;

async fn refused(builder: HostBuilder) -> StartError {
    match builder.start().await {
        Ok(host) => panic!("{host:?} started"),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_wrong_is_told_at_once() {
    let data = tempfile::tempdir().expect("a folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let builder = small(data.path())
        .listen(taken.local_addr().expect("a port").to_string())
        .workflow("a.yaml", "id: a\ntasks: [{ id: x, tool: nothing }]\n")
        .workflow("b.yaml", "id: b\ntasks: [{ id: x, type: nonsense }]\n")
        .project_text("name: p\nversion: 0.1.0\nworkflows: [{ source: c.yaml }]\nplugins: { files: { grant: { stores: [cahce] } } }\n")
        .plugins("/nowhere/plugins");
    let error = refused(builder).await;
    let text = error.to_string();
    for words in ["cannot listen", "a.yaml", "b.yaml", "c.yaml", "`cahce`", "/nowhere/plugins"] {
        assert!(text.contains(words), "{words} is missing in:\n{text}");
    }
}
