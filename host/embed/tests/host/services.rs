//! Services on other machines: waited for at the start of a distributed host, watched while it works.

use std::time::Duration;

use compozy_embed::{Mode, StartProblem, StoreChoice};
use compozy_engine::services::ServiceState;
use redis_test_server::Server;
use serde_json::json;

use crate::common::{eventually, small};

fn on_redis(builder: compozy_embed::HostBuilder, url: &str) -> compozy_embed::HostBuilder {
    let choices: [StoreChoice; 2] = ["cache=redis", "locks=redis"].map(|choice| choice.parse().expect("a choice"));
    let builder = builder.redis_url(url).probe_every(Duration::from_millis(100));
    choices.into_iter().fold(builder, compozy_embed::HostBuilder::store)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_distributed_host_waits_for_its_services_and_names_what_is_missing() {
    let data = tempfile::tempdir().expect("a folder");
    let builder = on_redis(small(data.path()), "redis://127.0.0.1:1").mode(Mode::Distributed);
    let error = builder.start_timeout(Duration::from_secs(10)).start().await.expect_err("nobody is there");
    let [StartProblem::Dependency { what, tries, .. }] = error.problems.as_slice() else { panic!("{error}") };
    assert_eq!(what, "the Redis server at `127.0.0.1:1`");
    assert!(*tries > 1, "{error}");
    assert!(error.to_string().contains("check that it runs"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_service_degrades_what_needs_it_and_nothing_else() {
    let data = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(&[]);
    let host = on_redis(small(data.path()), &server.url()).mode(Mode::Distributed).start().await.expect("it starts");
    let redis = |host: &compozy_embed::Host| {
        let health = host.health();
        assert_eq!((health.mode, health.services.len()), ("distributed", 1), "{health:?}");
        (health.status, health.services[0].clone())
    };
    let (status, up) = redis(&host);
    assert_eq!(
        (status, up.state, up.needed_by),
        ("ok", ServiceState::Up, vec!["cache".to_owned(), "locks".to_owned()])
    );

    server.pause();
    let (status, down) = eventually("the loss is noticed", async || {
        Some(redis(&host)).filter(|(_, service)| service.state == ServiceState::Down)
    })
    .await;
    assert_eq!(status, "degraded");
    assert!(down.since_ms >= up.since_ms && down.detail.is_some(), "{down:?}");
    assert!(host.health().ready, "work is taken: only what needs Redis is tried again later");
    let quick = host.start("quick", json!({ "word": "on" })).await.expect("started");
    assert_eq!(host.wait(&quick).await.expect("ended").state.status.name(), "SUCCESS");

    server.resume();
    let up =
        eventually("it is back", async || Some(redis(&host).1).filter(|service| service.state == ServiceState::Up))
            .await;
    assert!(up.since_ms >= down.since_ms, "{up:?}");
    host.stop().await;
}
