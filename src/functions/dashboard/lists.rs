//! Lists, page by page, and what is found in them: a bounded number of records is looked at for each page, however many there
//! are. Decides nothing and makes no HTML.

use crate::engine::EngineError;
use crate::engine::audit::{AuditEntry, DEAD_LETTER, OURSELVES};
use crate::functions::App;
use crate::functions::wire::api::{AuditView, RefreshView, RefreshWord};
use crate::functions::wire::views;
use crate::rollout::{Deployment, DeploymentKey, Plan, Refresh, RolloutId, Standing};
use crate::store::{Page, PageRequest, StoreError};

/// How many rows a page has.
pub const ROWS: usize = 100;
/// How many records a search looks at before it asks whether to go on.
pub const SEARCHED: usize = 5_000;
/// How many of them it reads at once.
const SEARCHED_AT_ONCE: usize = 1_000;

/// Rows of a list, and where the next ones begin.
pub struct Rows<T> {
    /// The rows.
    pub items: Vec<T>,
    /// The continuation.
    pub next: Option<String>,
    /// Whether a search stopped before its end.
    pub was_cut: bool,
}

/// Refreshes of a rollout whose application is named like `find`.
pub async fn refreshes(
    app: &App,
    id: RolloutId,
    word: Option<RefreshWord>,
    find: &str,
    continuation: Option<String>,
) -> Result<Rows<RefreshView>, StoreError> {
    let standings = word.map(views::standings);
    let store = app.engine.store();
    if let Some(key) = whole(find) {
        let refresh = store.refresh(id, &key).await?.map(|refresh| refresh.value);
        let refresh =
            refresh.filter(|refresh| standings.as_ref().is_none_or(|some| some.contains(&Standing::of(refresh))));
        return Ok(Rows { items: refresh.iter().map(views::refresh).collect(), next: None, was_cut: false });
    }
    let mut search = Search::begin(find, continuation);
    loop {
        let page = store.refreshes(id, standings.as_deref(), &search.request).await?;
        let items = page.items.into_iter().map(|item| item.value).collect();
        let is = |refresh: &Refresh| contains(&refresh.application_id.to_string(), find);
        if let Some(rows) = search.take(Page { items, next: page.next }, is) {
            let items = rows.items.iter().map(views::refresh).collect();
            return Ok(Rows { items, next: rows.next, was_cut: rows.was_cut });
        }
    }
}

/// Deployments, of one plan or of all, whose id or tenant is like `find`.
pub async fn deployments(
    app: &App,
    plan: Option<&Plan>,
    find: &str,
    continuation: Option<String>,
) -> Result<Rows<Deployment>, EngineError> {
    if let Some(key) = whole(find) {
        let found = app.engine.deployment(&key).await?.map(|found| found.value);
        let items = found.into_iter().filter(|found| plan.is_none() || found.plan.as_ref() == plan).collect();
        return Ok(Rows { items, next: None, was_cut: false });
    }
    let mut search = Search::begin(find, continuation);
    loop {
        let page = app.engine.store().deployments(plan, &search.request).await?;
        let items = page.items.into_iter().map(|item| item.value).collect();
        let is = |deployment: &Deployment| {
            contains(&deployment.application_id.to_string(), find)
                || deployment.tenant_id.as_deref().is_some_and(|tenant| contains(tenant, find))
        };
        if let Some(rows) = search.take(Page { items, next: page.next }, is) {
            return Ok(rows);
        }
    }
}

/// What kind of entries of the audit list are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// What people and keys did.
    Commands,
    /// Messages that nobody could work off.
    DeadLetters,
}

impl EntryKind {
    /// Every kind with its word and its name.
    pub const ALL: [(Self, &'static str, &'static str); 2] =
        [(Self::Commands, "commands", "what people did"), (Self::DeadLetters, "dead", "dead letters")];

    /// The kind of a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known, _)| *known == word).map(|(kind, ..)| kind)
    }

    /// Whether an entry is of this kind.
    pub fn is_of(self, entry: &AuditEntry) -> bool {
        match self {
            Self::Commands => entry.who != OURSELVES,
            Self::DeadLetters => entry.what == DEAD_LETTER,
        }
    }
}

/// Entries of the audit list, of one kind or of all, in which `find` stands.
pub async fn audit(
    app: &App,
    kind: Option<EntryKind>,
    find: &str,
    continuation: Option<String>,
) -> Result<Rows<AuditView>, StoreError> {
    let mut search = Search::begin(find, continuation);
    search.search_if(kind.is_some());
    loop {
        let page = app.engine.audit(&search.request).await?;
        let is = |entry: &AuditEntry| {
            let texts = [Some(&entry.what), Some(&entry.who), entry.on.as_ref(), entry.problem.as_ref()];
            kind.is_none_or(|kind| kind.is_of(entry)) && texts.into_iter().flatten().any(|text| contains(text, find))
        };
        if let Some(rows) = search.take(page, is) {
            let items = rows.items.into_iter().map(views::audit_entry).collect();
            return Ok(Rows { items, next: rows.next, was_cut: rows.was_cut });
        }
    }
}

/// The key of what was asked for by its whole name: an ARM id, or the key itself.
fn whole(find: &str) -> Option<DeploymentKey> {
    let find = find.trim();
    let by_id = find.parse::<crate::rollout::ApplicationId>().ok().map(|id| id.key());
    by_id.or_else(|| find.parse().ok())
}

fn contains(text: &str, find: &str) -> bool {
    text.to_lowercase().contains(&find.trim().to_lowercase())
}

/// A page of a list while it is put together. Without a text to find it is the store's own page; with one, at most
/// [`SEARCHED`] records are looked at.
struct Search<T> {
    /// What to read next.
    request: PageRequest,
    is_search: bool,
    items: Vec<T>,
    looked: usize,
}

impl<T> Search<T> {
    fn begin(find: &str, continuation: Option<String>) -> Self {
        let request = PageRequest { continuation, top: ROWS };
        let mut search = Self { request, is_search: false, items: Vec::new(), looked: 0 };
        search.search_if(!find.trim().is_empty());
        search
    }

    /// Looks for what is wanted where not all of it is.
    fn search_if(&mut self, is_search: bool) {
        if is_search {
            (self.is_search, self.request.top) = (true, SEARCHED_AT_ONCE);
        }
    }

    /// Takes what was read; the page, once it is complete.
    fn take(&mut self, page: Page<T>, is: impl Fn(&T) -> bool) -> Option<Rows<T>> {
        self.looked += page.items.len();
        let is_search = self.is_search;
        self.items.extend(page.items.into_iter().filter(|item| !is_search || is(item)));
        // Whole pages of the store, so that the next one begins where this one ended.
        let goes_on = self.is_search && self.items.len() < ROWS && self.looked < SEARCHED;
        match page.next {
            Some(next) if goes_on => {
                self.request.continuation = Some(next);
                None
            }
            next => {
                let items = std::mem::take(&mut self.items);
                Some(Rows { items, was_cut: self.is_search && next.is_some(), next })
            }
        }
    }
}
