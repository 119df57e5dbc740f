//! Power cuts, in short form. The long form is `cargo xtask powerloss --seeds 1000`.

use compozy_proof::disk::Syncs;
use compozy_proof::powerloss::run;

#[test]
fn what_was_told_before_a_power_cut_holds_after_it() {
    let report = run(1..31, Syncs::Honest, false);
    assert!(report.is_sound(), "{report}\n{:#?}\n{:#?}", report.lost, report.damaged);
    assert_eq!((report.seeds, report.cuts), (30, 90));
    // If nobody had been told anything, nothing could be lost.
    assert!(report.acknowledged > 500, "{report}");
}

#[test]
fn a_disk_that_ignores_syncs_is_found_out() {
    let report = run(1..31, Syncs::Ignored, false);
    assert!(!report.lost.is_empty(), "without syncs something must get lost: {report}");
}
