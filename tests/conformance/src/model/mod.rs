//! Reference models: what each role means, as plain maps and lists that are obviously right.
//!
//! A model takes a step to the backend, and checks the answer against its own state. It knows nothing of how backends work.

use std::fmt::Display;
use std::sync::Arc;

use async_trait::async_trait;
use compozy_runtime::Role;
use compozy_runtime::stores::Stores;

use crate::compare::Verdict;
use crate::keys::Pool;
use crate::rng::Rng;
use crate::suite::Options;
use crate::time::Time;

pub(crate) mod cache;
pub(crate) mod config;
pub(crate) mod events;
pub(crate) mod locks;
pub(crate) mod memory;
mod walk;

pub(crate) use walk::Walk;

/// The model of one role.
#[async_trait]
pub(crate) trait Model: Clone + Send + Sync + 'static {
    /// The role's trait.
    type Store: ?Sized + Send + Sync + 'static;
    /// A call of the role.
    type Step: Clone + Display + Send + Sync + 'static;
    /// The role.
    const ROLE: Role;

    /// Of an empty backend.
    fn new(options: &Options) -> Self;
    /// The role's store of a backend.
    fn store(stores: &Stores) -> Option<Arc<Self::Store>>;
    /// A call for a random run.
    fn random(rng: &mut Rng, pool: &Pool) -> Self::Step;
    /// Makes the call, checks the answer, and does to the model what the call did.
    async fn apply(&mut self, store: &Self::Store, step: &Self::Step, time: &Time) -> Verdict;
    /// Looks at everything that the backend should hold.
    async fn audit(&mut self, store: &Self::Store, time: &Time) -> Verdict;
    /// Dumps everything from one backend and loads it into another one, which is empty.
    async fn relocate(&self, from: &Self::Store, to: &Self::Store, moving: Moving, time: &Time) -> Verdict;
    /// Forgets what does not survive a restart (open cursors), or a move (what the dump did not tell).
    fn reopened(&mut self, moved: bool);
}

/// How a backend's content is brought to another one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moving {
    /// Entries of a page.
    pub(crate) max: u32,
    /// Loads every page twice, and dumps it a second time from the same cursor.
    pub(crate) again: bool,
}

/// A scan or a dump with more pages than this has no end.
pub(crate) const PAGES_MAX: usize = 200_000;
