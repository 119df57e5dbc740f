//! The server itself: whatever else is tested with it rests on this.

use std::net::TcpStream;
use std::time::Duration;

use temporal_test_server::{Server, shared};

#[test]
fn on_temporal_a_killed_server_comes_back_with_its_data_and_a_paused_one_goes_on() {
    let mut server = Server::start();
    let start = ["workflow", "start", "--task-queue", "q", "--type", "t", "--workflow-id", "kept"];
    let started = server.client(&start);
    assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
    server.kill();
    assert!(!server.serves());
    let port = server.port();
    server.restart();
    assert_eq!(server.port(), port);
    let shown = server.client(&["workflow", "describe", "--workflow-id", "kept"]);
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    server.pause();
    assert!(TcpStream::connect(server.address()).is_ok(), "the system still takes connections for it");
    assert!(!server.serves());
    server.resume();
    assert!(server.serves());
    let folder = server.folder().to_owned();
    assert!(folder.join("temporal.db").is_file());
    drop(server);
    assert!(!folder.exists());
}

#[test]
fn on_temporal_the_shared_server_outlives_the_test_that_started_it_and_knows_our_search_attributes() {
    let first = std::thread::spawn(|| shared().id()).join().unwrap();
    // Long enough for a child whose thread is gone to be gone too.
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!((shared().id(), shared().serves()), (first, true));
    let listed = shared().client(&["operator", "search-attribute", "list"]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for name in ["CompozyWorkflow", "CompozyStatus", "CompozyDefinition"] {
        assert!(listed.contains(name), "{listed}");
    }
}
