//! Objects on another machine, by the crate `object_store`.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use compozy_engine::blob_store::BlobStoreError;
use futures_util::StreamExt;
use http::StatusCode;
use object_store::path::Path as Name;
use object_store::{Error, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutOptions, PutPayload};

use crate::bridge::{Bridge, TimedOut};
use crate::http::Refusal;
use crate::objects::{Found, Listed, Objects, PAGE_NAMES};

/// One operation, with all its tries. A value of 16 MiB takes that long at 300 KB/s.
const OPERATION_MAX: Duration = Duration::from_mins(1);
const NO_BUCKET: &str = "there is no such bucket";

/// Objects below a prefix.
pub(crate) struct Remote {
    store: Arc<dyn ObjectStore>,
    bridge: Bridge,
    place: String,
    prefix: Name,
    /// Whether the bucket is known to be there.
    seen: AtomicBool,
}

impl Remote {
    /// Asks nothing of the store yet.
    pub(crate) fn new(store: Arc<dyn ObjectStore>, place: String, prefix: Name) -> io::Result<Self> {
        Ok(Self { store, bridge: Bridge::start()?, place, prefix, seen: AtomicBool::new(false) })
    }

    fn name(&self, below: &str) -> Name {
        below.split('/').fold(self.prefix.clone(), Name::join)
    }

    /// Runs one operation, and says what went wrong in the words of the port. `None`: there is no such object.
    fn run<T, F>(
        &self,
        action: &'static str,
        work: impl FnOnce(Arc<dyn ObjectStore>) -> F,
    ) -> Result<Option<T>, BlobStoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        match self.bridge.run(OPERATION_MAX, work(Arc::clone(&self.store))) {
            Some(Ok(done)) => {
                self.seen.store(true, Ordering::Relaxed);
                Ok(Some(done))
            }
            Some(Err(Error::NotFound { .. })) => self.there(action).map(|()| None),
            Some(Err(error)) => Err(self.failed(action, &error)),
            None => Err(self.slow(action)),
        }
    }

    /// Storage answers in the same way when the object is missing and when the bucket is; a list tells. Asked until the bucket
    /// was seen once.
    fn there(&self, action: &'static str) -> Result<(), BlobStoreError> {
        if self.seen.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (store, prefix) = (Arc::clone(&self.store), self.prefix.clone());
        match self.bridge.run(OPERATION_MAX, async move { store.list(Some(&prefix)).next().await.transpose() }) {
            Some(Ok(_)) => {
                self.seen.store(true, Ordering::Relaxed);
                Ok(())
            }
            Some(Err(Error::NotFound { .. })) => Err(self.refused(action, NO_BUCKET.to_owned())),
            Some(Err(error)) => Err(self.failed(action, &error)),
            None => Err(self.slow(action)),
        }
    }

    fn refused(&self, action: &'static str, reason: String) -> BlobStoreError {
        BlobStoreError::Refused { place: self.place.clone(), action, reason }
    }

    fn slow(&self, action: &'static str) -> BlobStoreError {
        let reason = format!("no answer within {} ms", OPERATION_MAX.as_millis());
        BlobStoreError::Unavailable { place: self.place.clone(), action, reason }
    }

    fn failed(&self, action: &'static str, error: &Error) -> BlobStoreError {
        let (reason, refusal) = root_of(error);
        match error {
            _ if refusal.is_some_and(|Refusal(status)| status == StatusCode::NOT_FOUND) => {
                self.refused(action, NO_BUCKET.to_owned())
            }
            _ if refusal.is_some() => self.refused(action, reason),
            Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
            | Error::NotSupported { .. }
            | Error::NotImplemented { .. }
            | Error::InvalidPath { .. } => self.refused(action, reason),
            _ => BlobStoreError::Unavailable { place: self.place.clone(), action, reason },
        }
    }

    fn listed(&self, object: &ObjectMeta) -> Option<Listed> {
        let parts: Vec<String> =
            object.location.prefix_match(&self.prefix)?.map(|part| part.as_ref().to_owned()).collect();
        Some(Listed { name: parts.join("/"), changed: object.last_modified.into() })
    }
}

impl Objects for Remote {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn write(&self, name: &str, bytes: Vec<u8>, action: &'static str) -> Result<(), BlobStoreError> {
        let name = self.name(name);
        let payload = PutPayload::from_bytes(Bytes::from(bytes));
        let written =
            self.run(
                action,
                |store| async move { store.put_opts(&name, payload, PutOptions::default()).await.map(drop) },
            )?;
        // To write to a bucket that is there needs no object that is there.
        written.ok_or_else(|| self.refused(action, NO_BUCKET.to_owned()))
    }

    fn read(&self, name: &str, bytes_max: u64, action: &'static str) -> Result<Option<Found>, BlobStoreError> {
        let name = self.name(name);
        self.run(action, |store| async move {
            let found = store.get_opts(&name, GetOptions::default()).await?;
            let size = found.meta.size;
            Ok(if size > bytes_max { Found::TooLarge(size) } else { Found::Bytes(found.bytes().await?) })
        })
    }

    fn remove(&self, name: &str, action: &'static str) -> Result<(), BlobStoreError> {
        let name = self.name(name);
        self.run(action, |store| async move { store.delete(&name).await }).map(drop)
    }

    fn changed(&self, name: &str, action: &'static str) -> Result<Option<SystemTime>, BlobStoreError> {
        let name = self.name(name);
        let head = self.run(action, |store| async move { store.head(&name).await })?;
        Ok(head.map(|head| head.last_modified.into()))
    }

    fn each(&self, below: &str, found: &mut dyn FnMut(Vec<Listed>) -> bool) -> Result<(), BlobStoreError> {
        const ACTION: &str = "list the objects";
        let (store, from) = (Arc::clone(&self.store), self.name(below));
        let mut pages = self.bridge.stream(|send| async move {
            let mut pages = store.list(Some(&from)).chunks(PAGE_NAMES);
            while let Some(page) = pages.next().await {
                let page: Result<Vec<ObjectMeta>, Error> = page.into_iter().collect();
                let last = page.is_err();
                if send.send(page).await.is_err() || last {
                    return;
                }
            }
        });
        loop {
            let page = pages.next(&self.bridge, OPERATION_MAX).map_err(|TimedOut| self.slow(ACTION))?;
            let page = match page {
                None => return Ok(()),
                Some(Err(Error::NotFound { .. })) => return Err(self.refused(ACTION, NO_BUCKET.to_owned())),
                Some(Err(error)) => return Err(self.failed(ACTION, &error)),
                Some(Ok(page)) => page,
            };
            if !found(page.iter().filter_map(|object| self.listed(object)).collect()) {
                return Ok(());
            }
        }
    }
}

/// The innermost reason, which says what happened in the fewest words, and whether it is that the storage will not list.
fn root_of(error: &Error) -> (String, Option<Refusal>) {
    let (mut reason, mut refusal) = (error.to_string(), None);
    let mut behind = std::error::Error::source(error);
    while let Some(cause) = behind {
        reason = cause.to_string();
        refusal = refusal.or_else(|| cause.downcast_ref::<Refusal>().copied());
        behind = cause.source();
    }
    (reason, refusal)
}
