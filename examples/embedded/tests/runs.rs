//! The example does what its README says.

use std::process::Command;

#[test]
fn the_program_prints_what_the_readme_says() {
    let data = tempfile::tempdir().expect("a folder");
    let ran = Command::new(env!("CARGO_BIN_EXE_embedded-example")).arg(data.path()).output().expect("it runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let printed = String::from_utf8(ran.stdout).expect("UTF-8");
    let readme = include_str!("../README.md");
    let shown = readme.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the output");
    assert_eq!(printed, shown);
}

#[test]
fn the_program_is_short() {
    let lines = include_str!("../src/main.rs").lines().count();
    assert!(lines <= 40, "{lines} lines");
}
