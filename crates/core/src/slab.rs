//! Numbered places that are reused: a small key instead of a long name.

/// Values by small numbers; a number is valid until its value is removed.
pub(super) struct Slab<T> {
    items: Vec<Option<T>>,
    vacant: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { items: Vec::new(), vacant: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Stores a value and gives its number.
    pub(super) fn insert(&mut self, item: T) -> u32 {
        if let Some(key) = self.vacant.pop() {
            self.items[key as usize] = Some(item);
            return key;
        }
        self.items.push(Some(item));
        u32::try_from(self.items.len() - 1).expect("runs_max bounds what is stored here")
    }

    /// Takes the value out; its number may be given again.
    pub(super) fn remove(&mut self, key: u32) {
        if self.items[key as usize].take().is_some() {
            self.vacant.push(key);
        }
    }

    /// Every number that is taken.
    pub(super) fn keys(&self) -> Vec<u32> {
        let taken = self.items.iter().enumerate().filter(|(_, item)| item.is_some());
        taken.map(|(key, _)| key as u32).collect()
    }
}

impl<T> std::ops::Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, key: u32) -> &T {
        self.items[key as usize].as_ref().expect("a number is used only while its value is there")
    }
}

impl<T> std::ops::IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, key: u32) -> &mut T {
        self.items[key as usize].as_mut().expect("a number is used only while its value is there")
    }
}
