//! A map that forgets what was used longest ago.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Bounded by entries and by weight. The entry that was put last stays, however heavy it is.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    entries: HashMap<K, Entry<V>>,
    by_age: BTreeMap<u64, K>,
    clock: u64,
    weight: u64,
    entries_max: usize,
    weight_max: u64,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    weight: u64,
    used: u64,
}

impl<K: Copy + Eq + Hash, V> Cache<K, V> {
    pub(crate) fn new(entries_max: usize, weight_max: u64) -> Self {
        Self { entries: HashMap::new(), by_age: BTreeMap::new(), clock: 0, weight: 0, entries_max, weight_max }
    }

    /// Takes an entry out.
    pub(crate) fn take(&mut self, key: K) -> Option<V> {
        let entry = self.entries.remove(&key)?;
        self.by_age.remove(&entry.used);
        self.weight -= entry.weight;
        Some(entry.value)
    }

    /// Puts an entry in as the youngest.
    pub(crate) fn put(&mut self, key: K, value: V, weight: u64) {
        self.take(key);
        self.clock += 1;
        self.weight += weight;
        self.by_age.insert(self.clock, key);
        self.entries.insert(key, Entry { value, weight, used: self.clock });
        while self.entries.len() > 1 && (self.entries.len() > self.entries_max || self.weight > self.weight_max) {
            let (_, oldest) = self.by_age.pop_first().expect("as many ages as entries");
            let entry = self.entries.remove(&oldest).expect("as many entries as ages");
            self.weight -= entry.weight;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.by_age.clear();
        self.weight = 0;
    }
}

impl<K: Copy + Eq + Hash, V: Clone> Cache<K, V> {
    /// An entry's value; it is then the youngest.
    pub(crate) fn get(&mut self, key: K) -> Option<V> {
        let weight = self.entries.get(&key)?.weight;
        let value = self.take(key)?;
        self.put(key, value.clone(), weight);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let mut cache = Cache::new(2, 100);
        cache.put(1, "a", 1);
        cache.put(2, "b", 1);
        assert_eq!(cache.get(1), Some("a"));
        cache.put(3, "c", 1);
        assert_eq!((cache.get(1), cache.get(2), cache.get(3)), (Some("a"), None, Some("c")));
    }

    #[test]
    fn the_oldest_go_when_all_are_too_heavy_and_the_last_stays() {
        let mut cache = Cache::new(10, 100);
        cache.put(1, "a", 40);
        cache.put(2, "b", 40);
        cache.put(3, "c", 200);
        assert_eq!((cache.get(1), cache.get(2), cache.get(3)), (None, None, Some("c")));
        cache.put(3, "c", 1);
        cache.put(4, "d", 99);
        assert_eq!((cache.get(3), cache.get(4)), (Some("c"), Some("d")));
    }
}
