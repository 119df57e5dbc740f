//! From a long script that fails to a short one: delta debugging.

use std::future::Future;
use std::time::{Duration, Instant};

/// What looking for a shorter script may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) runs: u32,
    pub(crate) time: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self { runs: 600, time: Duration::from_secs(20) }
    }
}

/// Takes steps away as long as the rest still fails. `fails` answers how a script fails, cut off after the step that showed it.
pub(crate) async fn shrink<S, F, Answer, Failing>(
    steps: Vec<S>,
    found: F,
    budget: Budget,
    mut fails: Failing,
) -> (Vec<S>, F)
where
    S: Clone,
    Answer: Future<Output = Option<(Vec<S>, F)>>,
    Failing: FnMut(Vec<S>) -> Answer,
{
    let begun = Instant::now();
    let mut runs = 0;
    let mut best = (steps, found);
    let mut size = best.0.len().div_ceil(2);
    while size > 0 {
        let mut start = 0;
        let mut shorter = false;
        // From the end: what comes late depends on what came early, so it can go first.
        while start < best.0.len() {
            if runs >= budget.runs || begun.elapsed() >= budget.time {
                return best;
            }
            runs += 1;
            let end = best.0.len() - start;
            let begin = end.saturating_sub(size);
            let candidate: Vec<S> = [&best.0[..begin], &best.0[end..]].concat();
            if let Some(failing) = fails(candidate).await {
                best = failing;
                shorter = true;
            } else {
                start += size;
            }
        }
        if size == 1 && !shorter {
            break;
        }
        size = if size == 1 { 1 } else { size / 2 };
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shrunk(steps: Vec<u32>, fails: impl Fn(&[u32]) -> bool) -> Vec<u32> {
        let fails = |steps: Vec<u32>| {
            let failing = fails(&steps).then_some((steps, ()));
            async move { failing }
        };
        shrink(steps, (), Budget::default(), fails).await.0
    }

    #[tokio::test]
    async fn only_what_is_needed_stays_in_its_order() {
        let all: Vec<u32> = (0..1_000).collect();
        assert_eq!(shrunk(all.clone(), |steps| steps.contains(&3) && steps.contains(&997)).await, [3, 997]);
        assert_eq!(shrunk(all.clone(), |steps| steps.len() >= 5).await.len(), 5);
        assert_eq!(shrunk(all, |_| true).await, Vec::<u32>::new());
    }

    #[tokio::test]
    async fn the_budget_ends_it() {
        let budget = Budget { runs: 3, time: Duration::from_mins(1) };
        let mut runs = 0;
        let (rest, ()) = shrink((0..100).collect::<Vec<u32>>(), (), budget, |_| {
            runs += 1;
            async { None }
        })
        .await;
        assert_eq!((rest.len(), runs), (100, 3));
    }
}
