//! Random histories, in short form. The long form is `cargo xtask simulate --seeds 10000`.

use compozy_proof::disk::Syncs;
use compozy_proof::simulation::{one, run};

#[test]
fn random_histories_keep_every_promise() {
    let report = run(1..201, Syncs::Honest, false);
    let problems: Vec<String> = report.problems().collect();
    assert!(problems.is_empty(), "{report}\n{}", problems.join("\n"));
    // Histories in which nothing happens would prove nothing.
    assert!(report.crashes > 300 && report.runs > 1_000 && report.steps > 5_000, "{report}");
}

#[test]
fn a_seed_gives_the_same_history_again() {
    for seed in 1..21 {
        assert_eq!(one(seed, Syncs::Honest).steps, one(seed, Syncs::Honest).steps, "seed {seed}");
    }
}

#[test]
fn a_disk_that_ignores_syncs_breaks_promises_and_is_found_out() {
    let report = run(1..41, Syncs::Ignored, false);
    assert!(report.failed.len() > 5, "{report}");
    let problem = report.problems().next().unwrap();
    assert!(problem.contains("again with: cargo xtask simulate --seeds 1 --seed "), "{problem}");
}
