//! Random histories, in short form. The long form is `cargo xtask simulate --seeds 10000`.

use compozy_proof::simulation::{one, run};

#[test]
fn random_histories_keep_every_promise() {
    let report = run(1..201, false);
    let problems: Vec<String> = report.problems().collect();
    assert!(problems.is_empty(), "{report}\n{}", problems.join("\n"));
    // Histories in which nothing happens would prove nothing.
    assert!(report.crashes > 300 && report.runs > 1_000 && report.steps > 5_000, "{report}");
}

#[test]
fn a_seed_gives_the_same_history_again() {
    for seed in 1..21 {
        assert_eq!(one(seed).steps, one(seed).steps, "seed {seed}");
    }
}
