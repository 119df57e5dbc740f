//! Who refers to what, for engines whose journal is not theirs to ask: the store is told.

use std::sync::Arc;

use compozy_plan::blob::BlobRef;
use serde_json::Value;

use super::Vault;
use crate::blob_store::{BlobStoreError, Swept};

impl Vault {
    /// The vault as one execution uses it: what is put in through the answer is recorded as used by it, before it is put in.
    pub fn of(&self, execution: &str) -> Arc<Self> {
        let user = Some(format!("{}/{execution}", self.kept.scope));
        Arc::new(Self { kept: Arc::clone(&self.kept), user })
    }

    /// Records all that a value refers to, before it is handed to the execution. Blocking when it refers to something.
    pub fn record(&self, value: &Value) -> Result<(), BlobStoreError> {
        BlobRef::all(value).iter().try_for_each(|blob| self.record_use(&blob.digest))
    }

    pub(super) fn record_use(&self, digest: &str) -> Result<(), BlobStoreError> {
        self.user.as_ref().map_or(Ok(()), |user| self.kept.store.record(user, digest))
    }

    /// As [`crate::blob_store::BlobStore::sweep`], for the executions of this engine. Those of others count as alive.
    pub fn sweep(&self, is_alive: &dyn Fn(&str) -> bool, goes_on: &dyn Fn() -> bool) -> Result<Swept, BlobStoreError> {
        let ours = |user: &str| {
            let execution = user.strip_prefix(self.kept.scope.as_str()).and_then(|rest| rest.strip_prefix('/'));
            execution.is_none_or(is_alive)
        };
        self.kept.store.sweep(&ours, goes_on)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;
    use crate::blob_store::BlobStore;
    use crate::limits::INLINE_BYTES_MAX;

    /// Notes what it is told, in order.
    #[derive(Default)]
    struct Notes(Mutex<Vec<String>>);

    impl Notes {
        fn note(&self, what: String) {
            self.0.lock().unwrap().push(what);
        }

        fn taken(&self) -> Vec<String> {
            std::mem::take(&mut *self.0.lock().unwrap())
        }
    }

    impl BlobStore for Notes {
        fn place(&self) -> String {
            "a test".to_owned()
        }

        fn put(&self, digest: &str, _bytes: &[u8]) -> Result<(), BlobStoreError> {
            self.note(format!("put {digest}"));
            Ok(())
        }

        fn get(&self, _digest: &str, _bytes: u64) -> Result<Option<Vec<u8>>, BlobStoreError> {
            Ok(None)
        }

        fn delete(&self, _digest: &str) -> Result<(), BlobStoreError> {
            Ok(())
        }

        fn list(&self, _found: &mut dyn FnMut(Vec<String>) -> bool) -> Result<(), BlobStoreError> {
            Ok(())
        }

        fn record(&self, execution: &str, digest: &str) -> Result<(), BlobStoreError> {
            self.note(format!("{execution} uses {digest}"));
            Ok(())
        }

        fn sweep(&self, is_alive: &dyn Fn(&str) -> bool, _goes_on: &dyn Fn() -> bool) -> Result<Swept, BlobStoreError> {
            for user in ["a/one", "a/two", "b/one", "ab/one"] {
                self.note(format!("{user} {}", is_alive(user)));
            }
            Ok(Swept::default())
        }
    }

    fn large(letter: &str) -> Value {
        json!(letter.repeat(INLINE_BYTES_MAX + 1))
    }

    #[test]
    fn a_use_is_recorded_before_the_value_and_when_a_reference_is_handed_on() {
        let store = Arc::new(Notes::default());
        let vault = Arc::new(Vault::shared(Arc::clone(&store) as _, "a"));
        let mut value = json!({ "x": large("x"), "y": [large("y")], "small": 1 });
        drop(vault.of("one").put_away(&mut value).unwrap());
        let digests: Vec<String> = BlobRef::all(&value).into_iter().map(|blob| blob.digest).collect();
        let recorded = |execution: &str, digest: &String| format!("a/{execution} uses {digest}");
        let put = digests.iter().flat_map(|digest| [recorded("one", digest), format!("put {digest}")]);
        assert_eq!(store.taken(), put.collect::<Vec<_>>());
        assert_eq!(digests.len(), 2);

        vault.of("two").record(&value).unwrap();
        assert_eq!(store.taken(), digests.iter().map(|digest| recorded("two", digest)).collect::<Vec<_>>());
        vault.of("two").record(&json!({ "small": [1] })).unwrap();
        vault.record(&value).unwrap();
        drop(vault.put_away(&mut large("z")).unwrap());
        let told = store.taken();
        assert!(told.len() == 1 && told[0].starts_with("put "), "nobody's value has no use: {told:?}");
    }

    #[test]
    fn executions_of_others_are_alive() {
        let store = Arc::new(Notes::default());
        let vault = Vault::shared(Arc::clone(&store) as _, "a");
        vault.sweep(&|execution| execution == "one", &|| true).unwrap();
        assert_eq!(store.taken(), ["a/one true", "a/two false", "b/one true", "ab/one true"]);
    }
}
