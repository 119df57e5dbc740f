//! The table of what others got wrong names tests that exist.

use std::fs;

use anyhow::{Context, Result};
use compozy_tests::project::checkout;

#[test]
fn every_test_that_the_table_names_exists() -> Result<()> {
    let root = checkout();
    let table = fs::read_to_string(root.join("tests/PREDECESSORS.md"))?;
    let rules = fs::read_dir(root.join("tests/conformance/src/rules"))?
        .map(|entry| Ok(fs::read_to_string(entry?.path())?))
        .collect::<Result<String>>()?;
    let (mut tests, mut missing) = (0, Vec::new());
    // What stands between backticks, in the second column.
    for line in table.lines().filter_map(|line| line.strip_prefix('|')?.split('|').nth(1)) {
        let of_rules = line.contains("rule `") || line.contains("rules `");
        for name in line.split('`').skip(1).step_by(2) {
            let found = if let Some((file, test)) = name.split_once("::") {
                tests += 1;
                let text = fs::read_to_string(root.join(file)).with_context(|| file.to_owned())?;
                text.contains(&format!("fn {test}("))
            } else if of_rules && !name.starts_with('_') && !name.contains('.') {
                let rule = name.rsplit('/').next().unwrap_or(name);
                rules.contains(&format!("fn {rule}("))
            } else if line.contains("case `") || line.contains("cases `") {
                root.join("host/interpreter/tests/cases").join(format!("{name}.txt")).exists()
            } else {
                true
            };
            if !found {
                missing.push(name);
            }
        }
    }
    assert!(missing.is_empty(), "the table names what is not there: {missing:?}");
    assert!(tests > 50, "{tests} tests are named");
    Ok(())
}
