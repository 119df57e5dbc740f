//! A shop with a durable workflow host inside of its own process: no server, no port, one folder of data.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use compozy_embed::Host;
use serde_json::json;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let data = std::env::args().nth(1).unwrap_or_else(|| "./data".to_owned());
    let orders = Path::new(env!("CARGO_MANIFEST_DIR")).join("orders");

    // Executions that an earlier run of this program left go on from here.
    let host = Host::builder(data).project(orders).start_timeout(Duration::from_secs(20)).start().await?;
    println!("health: {}", host.health().status);

    // An order comes in: every workflow with this trigger begins.
    let begun = host.trigger("order_placed", json!({ "item": "umbrella" })).await?;
    let paid = begun.into_iter().next().context("one workflow has the trigger")?.started?;
    let dropped = host.start("order", json!({ "item": "raincoat" })).await?;

    // One is paid, of the other we hear no more.
    host.signal(&paid, "paid", json!({ "amount": 25 })).await?;
    host.cancel(&dropped, "never paid", Duration::ZERO).await?;
    for id in [&paid, &dropped] {
        let state = host.wait(id).await?.state;
        println!("{}: {}", state.status.name(), state.output.unwrap_or_default());
    }
    host.stop().await;
    Ok(())
}
