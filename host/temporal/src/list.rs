//! Lists of runs, from the server's visibility store.
//!
//! It answers in an order of its own, so a step of a search takes a window of start times small enough to be read whole,
//! and sorts it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use compozy_engine::EngineError;
use compozy_engine::port::{ExecutionId, ExecutionSummary, Filter, Pins};
use compozy_engine::{Clock as _, SystemClock};
use compozy_interpreter::Status;
use futures_util::StreamExt as _;
use temporalio_client::errors::ClientError;
use temporalio_client::tonic::{Code, IntoRequest as _};
use temporalio_client::{WorkflowCountOptions, WorkflowExecution, WorkflowExecutionStatus, WorkflowListOptions};
use temporalio_common::protos::temporal::api::common::v1::WorkflowExecution as ProtoExecution;
use temporalio_common::protos::temporal::api::workflowservice::v1::DeleteWorkflowExecutionRequest;

use crate::caller::Caller;
use crate::limits::SEARCH_ROWS_MAX;
use crate::names::{ATTRIBUTE_STATUS, ATTRIBUTE_WORKFLOW, MEMO_PINS, workflow_queues};

/// The first window of a search, in milliseconds.
const WINDOW_MS: u64 = 60_000;

impl Caller {
    /// Runs that the filter lets through, the latest start first.
    pub(crate) async fn search(
        &self,
        filter: &Filter,
        limit: usize,
        before: Option<&ExecutionId>,
    ) -> Result<Vec<ExecutionSummary>, EngineError> {
        let mut until_ms = filter.started_before_ms.unwrap_or_else(|| SystemClock.now_ms().saturating_add(60_000));
        let mut cursor = None;
        if let Some(id) = before {
            let at_ms = ms(self.describe(id).await?.start_time());
            cursor = Some((at_ms, id.0.clone()));
            // With those of the same millisecond.
            until_ms = until_ms.min(at_ms.saturating_add(1));
        }
        let from_ms = filter.started_from_ms.unwrap_or(0);
        let mut window_ms = WINDOW_MS;
        let mut found: Vec<ExecutionSummary> = Vec::new();
        while until_ms > from_ms && found.len() < limit {
            let left = self.count(&conditions(self.ours(), filter, from_ms, until_ms)).await?;
            if left == 0 {
                break;
            }
            // As wide a window as can be read whole: everything, when that is little.
            let mut begin_ms =
                if left <= SEARCH_ROWS_MAX { from_ms } else { from_ms.max(until_ms.saturating_sub(window_ms)) };
            while until_ms - begin_ms > 1
                && self.count(&conditions(self.ours(), filter, begin_ms, until_ms)).await? > SEARCH_ROWS_MAX
            {
                begin_ms += (until_ms - begin_ms) / 2;
            }
            let mut rows = self.rows(&conditions(self.ours(), filter, begin_ms, until_ms)).await?;
            rows.retain(|row| fits(row, filter) && cursor.as_ref().is_none_or(|cursor| is_before(row, cursor)));
            rows.sort_by(|a, b| (b.started_at_ms, &b.id.0).cmp(&(a.started_at_ms, &a.id.0)));
            found.extend(rows);
            (until_ms, window_ms) = (begin_ms, window_ms.saturating_mul(4));
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn count(&self, query: &str) -> Result<usize, EngineError> {
        let count = self.starter.client.count_workflows(query, WorkflowCountOptions::default());
        match tokio::time::timeout(self.starter.server.patience, count).await {
            Ok(Ok(count)) => Ok(count.count()),
            Ok(Err(error)) => Err(self.refused(error)),
            Err(_) => Err(self.starter.server.away("the request took too long")),
        }
    }

    fn refused(&self, error: ClientError) -> EngineError {
        match error {
            ClientError::Rpc(status) => self.starter.server.status(&ExecutionId(String::new()), &status),
            other => EngineError::Internal(format!("Temporal: {other}")),
        }
    }

    /// The runs of this project and of no other in the namespace, also those of another behaviour.
    fn ours(&self) -> String {
        format!("TaskQueue STARTS_WITH '{}'", unquoted(&workflow_queues(&self.starter.project)))
    }

    async fn executions(&self, query: &str) -> Result<Vec<WorkflowExecution>, EngineError> {
        let mut stream = self.starter.client.list_workflows(query, WorkflowListOptions::default());
        let mut rows = Vec::new();
        loop {
            match tokio::time::timeout(self.starter.server.patience, stream.next()).await {
                Ok(Some(Ok(row))) => rows.push(row),
                Ok(Some(Err(error))) => return Err(self.refused(error)),
                Ok(None) => return Ok(rows),
                Err(_) => return Err(self.starter.server.away("the request took too long")),
            }
        }
    }

    async fn rows(&self, query: &str) -> Result<Vec<ExecutionSummary>, EngineError> {
        let mut rows: Vec<ExecutionSummary> = Vec::new();
        for row in self.executions(query).await? {
            let summary = summary(&row);
            // A run with several histories: the earlier ones are parts of it.
            match rows.iter_mut().find(|known| known.id == summary.id) {
                Some(known) if known.started_at_ms < summary.started_at_ms => {
                    let started_at_ms = known.started_at_ms;
                    *known = ExecutionSummary { started_at_ms, ..summary };
                }
                Some(known) => known.started_at_ms = summary.started_at_ms,
                None => rows.push(summary),
            }
        }
        Ok(rows)
    }

    /// The plugins that runs are bound to that have not ended.
    pub(crate) async fn open_pins(&self) -> Result<BTreeSet<(String, String)>, EngineError> {
        let query = format!("{} AND ExecutionStatus = 'Running'", self.ours());
        let mut pins = BTreeSet::new();
        for row in self.executions(&query).await? {
            let bound: Option<Pins> = row.memo().get(MEMO_PINS).ok().flatten();
            pins.extend(bound.unwrap_or_default());
        }
        Ok(pins)
    }

    /// Removes runs that ended before a time. Answers how many.
    pub(crate) async fn prune(&self, ended_before_ms: u64) -> Result<u64, EngineError> {
        let query =
            format!("{} AND ExecutionStatus != 'Running' AND CloseTime < '{}'", self.ours(), rfc3339(ended_before_ms));
        let rows = self.executions(&query).await?;
        let mut removed = BTreeSet::new();
        for row in &rows {
            let request = DeleteWorkflowExecutionRequest {
                namespace: self.starter.client.options().namespace.clone(),
                workflow_execution: Some(ProtoExecution {
                    workflow_id: row.id().to_owned(),
                    run_id: row.run_id().to_owned(),
                }),
            };
            let mut service = self.starter.client.connection().workflow_service();
            match service.delete_workflow_execution(request.into_request()).await {
                Ok(_) => {}
                // Deleted before; the list follows after a while.
                Err(status) if status.code() == Code::NotFound => continue,
                Err(status) => return Err(self.starter.server.status(&ExecutionId(row.id().to_owned()), &status)),
            }
            removed.insert(row.id().to_owned());
        }
        Ok(removed.len() as u64)
    }
}

fn is_before(row: &ExecutionSummary, cursor: &(u64, String)) -> bool {
    (row.started_at_ms, &row.id.0) < (cursor.0, &cursor.1)
}

fn conditions(ours: String, filter: &Filter, from_ms: u64, until_ms: u64) -> String {
    let mut all = vec![ours, "ExecutionStatus != 'ContinuedAsNew'".to_owned()];
    if from_ms > 0 {
        all.push(format!("StartTime >= '{}'", rfc3339(from_ms)));
    }
    all.push(format!("StartTime < '{}'", rfc3339(until_ms)));
    if let Some(workflow) = &filter.workflow {
        all.push(format!("{} = '{}'", ATTRIBUTE_WORKFLOW.name(), unquoted(workflow)));
    }
    if let Some(status) = filter.status {
        all.push(match status {
            Status::Pending | Status::Running | Status::Waiting | Status::Paused => {
                "ExecutionStatus = 'Running'".to_owned()
            }
            Status::Success => "ExecutionStatus = 'Completed'".to_owned(),
            Status::Canceled => "ExecutionStatus = 'Canceled'".to_owned(),
            Status::Failed | Status::TimedOut => {
                "(ExecutionStatus = 'Failed' OR ExecutionStatus = 'Terminated' OR ExecutionStatus = 'TimedOut')"
                    .to_owned()
            }
        });
    }
    all.join(" AND ")
}

/// For a text in a query. Ids and names have no quotes; one that does matches nothing.
fn unquoted(text: &str) -> String {
    text.replace(['\'', '\\'], "?")
}

fn fits(row: &ExecutionSummary, filter: &Filter) -> bool {
    filter.status.is_none_or(|status| row.status == status)
}

fn summary(row: &WorkflowExecution) -> ExecutionSummary {
    let attributes = row.search_attributes();
    let said = attributes.get(&ATTRIBUTE_STATUS);
    let status = match row.status() {
        WorkflowExecutionStatus::Completed => Status::Success,
        WorkflowExecutionStatus::Canceled => Status::Canceled,
        WorkflowExecutionStatus::TimedOut => Status::TimedOut,
        WorkflowExecutionStatus::Failed if said.as_deref() == Some("TIMED_OUT") => Status::TimedOut,
        WorkflowExecutionStatus::Failed | WorkflowExecutionStatus::Terminated => Status::Failed,
        _ => match said.as_deref() {
            Some("WAITING") => Status::Waiting,
            Some("PAUSED") => Status::Paused,
            _ => Status::Running,
        },
    };
    ExecutionSummary {
        id: ExecutionId(row.id().to_owned()),
        workflow: attributes.get(&ATTRIBUTE_WORKFLOW).unwrap_or_default(),
        status,
        started_at_ms: ms(row.start_time()),
        ended_at_ms: row.close_time().map(|time| ms(Some(time))).filter(|_| status.is_terminal()),
    }
}

fn ms(time: Option<SystemTime>) -> u64 {
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A time as the server's query language has it.
fn rfc3339(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1_000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(ms % 1_000).expect("less than 1,000") * 1_000_000;
    prost_types::Timestamp { seconds, nanos }.to_string()
}
