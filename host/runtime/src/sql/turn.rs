//! The right to write, and the line of those who want it.
//!
//! Handing the right to whoever is first in line, as a fair semaphore does, leaves the database idle until that task runs again. When
//! statements take some microseconds and many write, every writer then waits (a lock convoy), and the line never ends. So a
//! freed right may be taken by whoever comes first; but one who has waited for [`PATIENCE`] gets it handed over.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How long others may overtake somebody who waits. Longer than a line of all callers takes that are let in at once, so that a stall, as
/// when the log is written back, does not leave a line behind in which everybody has waited too long for ever.
const PATIENCE: Duration = Duration::from_millis(10);
/// How often a taken right is looked at before somebody waits for it in line: some microseconds, in which many a statement ends.
const SPINS: u32 = 100;

/// The right to write to one database. One at a time has it.
#[derive(Debug, Default)]
pub(super) struct Turn {
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    taken: bool,
    waiting: VecDeque<Waiting>,
    /// The number of the last one who came to wait.
    last: u64,
    /// The one who has the right since it was handed over, and does not know it yet.
    chosen: Option<u64>,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    since: Instant,
    waker: Waker,
}

/// The right to write, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit(Arc<Turn>);

impl Turn {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the right if it is free, or becomes so within some microseconds while nobody else waits.
    pub(super) fn try_take(self: &Arc<Self>) -> Option<Permit> {
        for _ in 0..SPINS {
            let mut line = self.line();
            if !std::mem::replace(&mut line.taken, true) {
                return Some(Permit(Arc::clone(self)));
            }
            if !line.waiting.is_empty() {
                return None;
            }
            drop(line);
            std::hint::spin_loop();
        }
        None
    }

    /// Waits for the right. Cancel-safe: dropped, it has none, and who comes next in line is not forgotten.
    pub(super) async fn take(self: &Arc<Self>) -> Permit {
        let mut place = Place { turn: self, number: None };
        poll_fn(|context| place.poll(context)).await
    }

    fn give_back(&self) {
        let mut line = self.line();
        let Some(first) = line.waiting.front() else {
            line.taken = false;
            return;
        };
        let (waker, number) = (first.waker.clone(), first.number);
        if first.since.elapsed() >= PATIENCE {
            line.waiting.pop_front();
            line.chosen = Some(number);
        } else {
            line.taken = false;
        }
        drop(line);
        waker.wake();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

/// A place in the line.
struct Place<'a> {
    turn: &'a Arc<Turn>,
    number: Option<u64>,
}

impl Place<'_> {
    fn poll(&mut self, context: &Context<'_>) -> Poll<Permit> {
        let mut line = self.turn.line();
        let chosen = self.number.is_some() && line.chosen == self.number;
        if chosen || !line.taken {
            if chosen {
                line.chosen = None;
            }
            line.taken = true;
            line.waiting.retain(|other| Some(other.number) != self.number);
            self.number = None;
            return Poll::Ready(Permit(Arc::clone(self.turn)));
        }
        if let Some(own) = line.waiting.iter_mut().find(|other| Some(other.number) == self.number) {
            own.waker.clone_from(context.waker());
        } else {
            line.last += 1;
            let number = line.last;
            line.waiting.push_back(Waiting { number, since: Instant::now(), waker: context.waker().clone() });
            self.number = Some(number);
        }
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut line = self.turn.line();
        if line.chosen == Some(number) {
            // Handed over and never taken: on to the next.
            line.chosen = None;
            drop(line);
            return self.turn.give_back();
        }
        let first = line.waiting.front().is_some_and(|first| first.number == number);
        line.waiting.retain(|other| other.number != number);
        // It may have been woken for a right that is free now; the next one has not.
        let next = if first && !line.taken { line.waiting.front().map(|next| next.waker.clone()) } else { None };
        drop(line);
        if let Some(next) = next {
            next.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;

    use super::*;

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn one_at_a_time_has_the_right() {
        let turn = Arc::new(Turn::default());
        let permit = turn.try_take().unwrap();
        assert!(turn.try_take().is_none());
        let mut waiting = pin!(turn.take());
        assert!(poll(waiting.as_mut()).is_none());
        drop(permit);
        let permit = poll(waiting.as_mut()).expect("free again");
        assert!(turn.try_take().is_none());
        drop(permit);
        assert!(turn.try_take().is_some());
        assert!(turn.line().waiting.is_empty());
    }

    #[test]
    fn who_comes_may_overtake_but_not_somebody_who_waited_long() {
        let turn = Arc::new(Turn::default());
        let permit = turn.try_take().unwrap();
        let mut waiting = pin!(turn.take());
        assert!(poll(waiting.as_mut()).is_none());
        drop(permit);
        let overtaker = turn.try_take().expect("the one in line has not waited long");
        assert!(poll(waiting.as_mut()).is_none());
        std::thread::sleep(PATIENCE);
        drop(overtaker);
        assert!(turn.try_take().is_none(), "it is handed over now");
        assert!(poll(waiting.as_mut()).is_some());
    }

    #[test]
    fn who_goes_away_leaves_no_hole_in_the_line() {
        let turn = Arc::new(Turn::default());
        let permit = turn.try_take().unwrap();
        let mut second = pin!(turn.take());
        {
            let mut first = pin!(turn.take());
            assert!(poll(first.as_mut()).is_none());
            assert!(poll(second.as_mut()).is_none());
            std::thread::sleep(PATIENCE);
            drop(permit);
            assert!(poll(second.as_mut()).is_none(), "the first one has it, without having looked");
        }
        assert!(poll(second.as_mut()).is_some());
        assert!(turn.line().waiting.is_empty() && !turn.line().taken, "the permit above was dropped");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_who_want_it_all_get_it() {
        let turn = Arc::new(Turn::default());
        let inside = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let (turn, inside) = (Arc::clone(&turn), Arc::clone(&inside));
            tasks.spawn(async move {
                for round in 0..200 {
                    let permit = match turn.try_take() {
                        Some(permit) => permit,
                        None => turn.take().await,
                    };
                    assert!(!inside.swap(true, std::sync::atomic::Ordering::SeqCst), "two have it");
                    if round % 10 == 0 {
                        // Somebody keeps it over a wait.
                        tokio::task::yield_now().await;
                    }
                    inside.store(false, std::sync::atomic::Ordering::SeqCst);
                    drop(permit);
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        assert!(turn.try_take().is_some());
    }
}
