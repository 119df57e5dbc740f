//! What a workflow worker does for runs outside of them: finding the definition of a child, delivering signals. Short,
//! repeated until it is done, and harmless when it is done twice.

use std::sync::Arc;

use compozy_engine::EngineError;
use compozy_engine::port::{Control, ExecutionId, Workflows};
use compozy_engine::request::check_input;
use compozy_engine::signal::{check_trigger, no_trigger, not_delivered, not_started, outcome, started};
use compozy_engine::vault::unavailable;
use compozy_interpreter::{Failure, Signal};
use compozy_plan::plan::Plan;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::json;
use temporalio_sdk::ApplicationFailure;
use temporalio_sdk::activities::{
    ActivityContext, ActivityDefinitions, ActivityError, ActivityImplementer, ExecutableActivity,
};

use crate::caller::Caller;
use crate::message::{Deliver, Delivered, Ending, FindWorkflow, FoundWorkflow};
use crate::start::{DeliverActivity, EndingActivity, FindActivity};
use crate::starter::{Beginning, derived_id};

/// What runs need of the world.
pub(crate) struct World {
    pub(crate) caller: Arc<Caller>,
    pub(crate) workflows: Arc<dyn Workflows>,
}

impl ActivityImplementer for World {
    fn register_all(self: Arc<Self>, definitions: &mut ActivityDefinitions) {
        definitions.register_activity::<FindActivity>(Arc::clone(&self));
        definitions.register_activity::<EndingActivity>(Arc::clone(&self));
        definitions.register_activity::<DeliverActivity>(self);
    }
}

impl ExecutableActivity for FindActivity {
    type Implementer = World;
    const REQUIRES_INSTANCE: bool = true;

    fn definition() -> Self {
        Self
    }

    fn execute(
        world: Option<Arc<World>>,
        _ctx: ActivityContext,
        question: FindWorkflow,
    ) -> BoxFuture<'static, Result<FoundWorkflow, ActivityError>> {
        let world = world.expect("the worker registers the activity with its world");
        async move { world.find(question).await.map_err(|error| again(&error)) }.boxed()
    }
}

impl ExecutableActivity for EndingActivity {
    type Implementer = World;
    const REQUIRES_INSTANCE: bool = true;

    fn definition() -> Self {
        Self
    }

    fn execute(
        world: Option<Arc<World>>,
        _ctx: ActivityContext,
        id: ExecutionId,
    ) -> BoxFuture<'static, Result<Option<Ending>, ActivityError>> {
        let world = world.expect("the worker registers the activity with its world");
        async move {
            let ended = world.caller.ending(&id).await.map_err(|error| again(&error))?;
            Ok(ended.map(|outcome| Ending { status: outcome.status, failure: outcome.failure }))
        }
        .boxed()
    }
}

impl ExecutableActivity for DeliverActivity {
    type Implementer = World;
    const REQUIRES_INSTANCE: bool = true;

    fn definition() -> Self {
        Self
    }

    fn execute(
        world: Option<Arc<World>>,
        ctx: ActivityContext,
        Deliver { to, signal }: Deliver,
    ) -> BoxFuture<'static, Result<Delivered, ActivityError>> {
        let world = world.expect("the worker registers the activity with its world");
        let sender = ctx.info().workflow_id.clone().unwrap_or_default();
        async move {
            let delivered = match to {
                Some(to) => world.send(&to, &signal).await,
                None => world.trigger(&sender, &signal).await,
            };
            delivered.map_err(|error| again(&error))
        }
        .boxed()
    }
}

fn again(error: &EngineError) -> ActivityError {
    ActivityError::application(
        ApplicationFailure::builder(error.to_string()).type_name(error.code().to_owned()).build(),
    )
}

fn refused(error: &EngineError) -> Failure {
    Failure::permanent(error.code(), error.to_string())
}

impl World {
    async fn find(&self, question: FindWorkflow) -> Result<FoundWorkflow, EngineError> {
        let FindWorkflow { workflow, input, child } = question;
        let Some(plan) = self.workflows.workflow(&workflow) else {
            let failure = Failure::permanent("WORKFLOW_NOT_FOUND", format!("there is no workflow `{workflow}`"));
            return Ok(FoundWorkflow::Refused(failure));
        };
        let caller = Arc::clone(&self.caller);
        let found = self.caller.blocking(move || {
            caller.vault().of(&child.0).record(&input).map_err(|error| unavailable(&error))?;
            let input = caller.whole(input)?;
            check_input(&plan, &input)?;
            caller.starter.define(&plan, &child)
        });
        match found.await {
            Ok(found) => Ok(FoundWorkflow::Found { definition: found.digest, plan: found.plan, pins: found.pins }),
            Err(error) if error.retryable() => Err(error),
            Err(error) => Ok(FoundWorkflow::Refused(refused(&error))),
        }
    }

    /// Sends a signal to executions. One that cannot take it does not keep it from the others.
    async fn send(&self, to: &[String], signal: &Signal) -> Result<Delivered, EngineError> {
        let (mut delivered, mut refused) = (Vec::new(), Vec::new());
        for id in to {
            let id = ExecutionId(id.clone());
            match self.hand(&id, signal).await {
                Ok(()) => delivered.push(json!(id)),
                Err(error) if error.retryable() => return Err(error),
                Err(error) => refused.push(not_delivered(&id, &error)),
            }
        }
        Ok(outcome(signal, "delivered", &delivered, &refused))
    }

    async fn hand(&self, to: &ExecutionId, signal: &Signal) -> Result<(), EngineError> {
        self.caller.record(to, &signal.payload).await?;
        self.caller.say(to, Control::Signal(signal.clone())).await
    }

    /// Starts every workflow with a trigger of the signal's name.
    async fn trigger(&self, sender: &str, signal: &Signal) -> Result<Delivered, EngineError> {
        let plans = self.workflows.triggered_by(&signal.name);
        if plans.is_empty() {
            return Ok(Err(no_trigger(&signal.name)));
        }
        let (mut taken, mut refused) = (Vec::new(), Vec::new());
        for plan in plans {
            let workflow = plan.workflow.clone();
            match self.start_triggered(sender, plan, signal).await {
                Ok(id) => taken.push(started(&workflow, &id)),
                Err(error) if error.retryable() => return Err(error),
                Err(error) => refused.push(not_started(&workflow, &error)),
            }
        }
        Ok(outcome(signal, "started", &taken, &refused))
    }

    async fn start_triggered(
        &self,
        sender: &str,
        plan: Arc<Plan>,
        signal: &Signal,
    ) -> Result<ExecutionId, EngineError> {
        // The same signal of the same sender starts the same run, however often it is delivered.
        let id = derived_id(&["trigger", sender, &signal.id, &plan.workflow]);
        // A signal without a payload starts like a request without an input.
        let input = if signal.payload.is_null() { json!({}) } else { signal.payload.clone() };
        let (caller, checked, name, payload) =
            (Arc::clone(&self.caller), Arc::clone(&plan), signal.name.clone(), input.clone());
        let check = self.caller.blocking(move || {
            let whole = caller.whole(payload)?;
            check_trigger(&checked, &name, &whole)?;
            check_input(&checked, &whole)
        });
        check.await?;
        self.caller.record(&id, &input).await?;
        self.caller.starter.begin(Beginning { id, plan, input, priority: None, named: None }).await
    }
}
