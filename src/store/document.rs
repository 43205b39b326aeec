//! Documents: small records that are only ever found by their name, such as a wanted version or an entry of the audit list.
//!
//! A kind of document is a type that implements [`Document`]; [`get`], [`save`], [`remove`] and [`page`] are how it is kept.
//! Nothing is counted or woken here: what has to be looked at at a time belongs to a refresh or a deployment.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::rollout::WantedVersion;

use super::{Page, PageRequest, Saved, Store, StoreError, Versioned};

/// The longest name as it is stored; the key of a row in Table Storage has 512 characters at most.
const LONGEST: usize = 400;
/// How much of a longer name is kept before its hash.
const KEPT: usize = 300;

/// A kind of document.
pub trait Document: Serialize + DeserializeOwned + Send + Sync {
    /// What its kind is stored under: letters and `-`. Never changed.
    const COLLECTION: &'static str;
    /// What it is found by among its kind. Any text; names that begin alike are listed together.
    fn name(&self) -> String;
}

/// Found by its plan.
impl Document for WantedVersion {
    const COLLECTION: &'static str = "wanted-version";
    fn name(&self) -> String {
        self.plan.to_string()
    }
}

/// A name as it is stored: letters, digits and `-._:@!`, which every backend takes as they are and sorts alike; everything
/// else as `=` and two hex digits, and no name at all as `=`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentName(String);

impl DocumentName {
    /// The stored form of a name. A very long one ends in its hash.
    pub fn of(name: &str) -> Self {
        if name.is_empty() {
            return Self("=".to_owned());
        }
        let stored = escaped(name);
        if stored.len() <= LONGEST {
            return Self(stored);
        }
        let hash: String = Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("{}={hash}", &stored[..KEPT]))
    }

    /// The name as a store has it.
    pub fn from_stored(stored: String) -> Self {
        Self(stored)
    }

    /// As it is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The stored names that begin with `prefix`, from the first to before the last: `~` sorts after all that a stored name holds.
pub(super) fn prefix_range(prefix: &str) -> (String, String) {
    let from = escaped(prefix);
    let to = format!("{from}~");
    (from, to)
}

/// The stored name that a page of documents begins behind.
pub(super) fn after_name(continuation: Option<&str>) -> Result<Option<String>, StoreError> {
    let read = |text: &str| text.strip_prefix("n.").map(str::to_owned).ok_or(StoreError::InvalidContinuation);
    continuation.map(read).transpose()
}

/// The continuation after a document.
pub(super) fn continuation_after(name: &DocumentName) -> String {
    format!("n.{name}")
}

fn escaped(text: &str) -> String {
    let mut stored = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._:@!".contains(&byte) {
            stored.push(char::from(byte));
        } else {
            stored.push_str(&format!("={byte:02x}"));
        }
    }
    stored
}

/// The document of this name.
///
/// # Errors
/// [`StoreError::Corrupt`] if what is stored is no `T`.
pub async fn get<T: Document>(store: &dyn Store, name: &str) -> Result<Option<Versioned<T>>, StoreError> {
    store.document(T::COLLECTION, &DocumentName::of(name)).await?.map(read).transpose()
}

/// Writes a document, guarded.
pub async fn save<T: Document>(store: &dyn Store, document: &Versioned<T>) -> Result<Saved, StoreError> {
    let body = serde_json::to_value(&document.value)
        .expect("records have only string keys and finite parts, which always serialise");
    let name = DocumentName::of(&document.value.name());
    store.save_document(T::COLLECTION, &name, &Versioned { value: body, etag: document.etag.clone() }).await
}

/// Removes a document as it was read; one that was never stored is a [`Saved::Conflict`].
pub async fn remove<T: Document>(store: &dyn Store, document: &Versioned<T>) -> Result<Saved, StoreError> {
    let Some(etag) = &document.etag else { return Ok(Saved::Conflict) };
    store.remove_document(T::COLLECTION, &DocumentName::of(&document.value.name()), etag).await
}

/// Removes the document of this name, whatever is stored there; a writer who is quicker keeps it.
pub async fn forget<T: Document>(store: &dyn Store, name: &str) -> Result<(), StoreError> {
    let name = DocumentName::of(name);
    if let Some(etag) = store.document(T::COLLECTION, &name).await?.and_then(|stored| stored.etag) {
        store.remove_document(T::COLLECTION, &name, &etag).await?;
    }
    Ok(())
}

/// Documents whose names begin with `prefix`, in the order of their stored names.
///
/// # Errors
/// [`StoreError::InvalidContinuation`], and [`StoreError::Corrupt`] if one of them is no `T`.
pub async fn page<T: Document>(
    store: &dyn Store,
    prefix: &str,
    request: &PageRequest,
) -> Result<Page<Versioned<T>>, StoreError> {
    let page = store.documents(T::COLLECTION, prefix, request).await?;
    let items = page.items.into_iter().map(|(_, document)| read(document)).collect::<Result<_, _>>()?;
    Ok(Page { items, next: page.next })
}

/// All documents of a kind whose names begin with `prefix`; for kinds of which there are few.
pub async fn all<T: Document>(store: &dyn Store, prefix: &str) -> Result<Vec<Versioned<T>>, StoreError> {
    let mut request = PageRequest { continuation: None, top: 1_000 };
    let mut items = Vec::new();
    loop {
        let page = page(store, prefix, &request).await?;
        items.extend(page.items);
        match page.next {
            Some(next) => request.continuation = Some(next),
            None => return Ok(items),
        }
    }
}

/// Those of [`all`] that can be read, and the stored names of the others: for lists that go on without one of them.
pub async fn readable<T: Document>(
    store: &dyn Store,
    prefix: &str,
) -> Result<(Vec<Versioned<T>>, Vec<DocumentName>), StoreError> {
    let mut request = PageRequest { continuation: None, top: 1_000 };
    let (mut items, mut unreadable) = (Vec::new(), Vec::new());
    loop {
        let page = store.documents(T::COLLECTION, prefix, &request).await?;
        for (name, document) in page.items {
            match read(document) {
                Ok(document) => items.push(document),
                Err(_) => unreadable.push(name),
            }
        }
        match page.next {
            Some(next) => request.continuation = Some(next),
            None => return Ok((items, unreadable)),
        }
    }
}

fn read<T: Document>(document: Versioned<Value>) -> Result<Versioned<T>, StoreError> {
    let value = serde_json::from_value(document.value)
        .map_err(|error| StoreError::Corrupt { what: T::COLLECTION, reason: error.to_string() })?;
    Ok(Versioned { value, etag: document.etag })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_names_hold_nothing_that_a_backend_minds() {
        assert_eq!(DocumentName::of("a-B.9_:@!").as_str(), "a-B.9_:@!");
        assert_eq!(DocumentName::of("/x~ü=").as_str(), "=2fx=7e=c3=bc=3d");
    }

    #[test]
    fn long_names_stay_apart_and_begin_alike() {
        let (one, two) = (DocumentName::of(&("x".repeat(500) + "1")), DocumentName::of(&("x".repeat(500) + "2")));
        assert_ne!(one, two);
        assert!(one.as_str().len() <= LONGEST);
        assert_eq!(one.as_str()[..KEPT], two.as_str()[..KEPT]);
    }
}
