//! Our multitenant app registration in customers' tenants: client credentials of each tenant whose administrator has let the
//! app in, and given its service principal there a role (design §5).
//!
//! Only for tenants that the settings allow. Whether a customer has let it in is for Entra to say.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::credential::{IdentityConfig, TokenSource};
use crate::clock::Clock;

/// How many tenants' tokens are kept at once; with more they are asked for anew.
const MOST: usize = 1_000;

/// In which tenants besides its own the app may ask for tokens (`AZURE_ADDITIONALLY_ALLOWED_TENANTS`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AllowedTenants {
    /// In none.
    #[default]
    None,
    /// In these, lower-case.
    These(BTreeSet<String>),
    /// In all.
    All,
}

impl AllowedTenants {
    /// Whether the app may ask for tokens in `tenant`.
    pub fn allows(&self, tenant: &str) -> bool {
        match self {
            Self::None => false,
            Self::These(tenants) => tenants.contains(&tenant.to_ascii_lowercase()),
            Self::All => true,
        }
    }
}

type MakeClient = Arc<dyn Fn() -> Result<reqwest::Client, String> + Send + Sync>;

/// The app as a guest.
pub struct Guests {
    app: IdentityConfig,
    allowed: AllowedTenants,
    make_client: MakeClient,
    http: Arc<OnceLock<Result<reqwest::Client, String>>>,
    clock: Arc<dyn Clock>,
    sources: Mutex<HashMap<String, Arc<TokenSource>>>,
}

impl Guests {
    /// The app of `app`, whose own tenant is named there; `make_client` makes the client for all tenants, when it is needed.
    pub fn new<F>(app: IdentityConfig, allowed: AllowedTenants, make_client: F, clock: Arc<dyn Clock>) -> Self
    where
        F: Fn() -> Result<reqwest::Client, String> + Send + Sync + 'static,
    {
        let (make_client, http) = (Arc::new(make_client), Arc::default());
        Self { app, allowed, make_client, http, clock, sources: Mutex::default() }
    }

    /// Tokens of a customer's tenant; `None` where that is not allowed, or is our own.
    pub fn tokens_of(&self, tenant: &str) -> Option<Arc<TokenSource>> {
        let tenant = tenant.to_ascii_lowercase();
        let is_ours = self.app.tenant_id.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(&tenant));
        if is_ours || !self.allowed.allows(&tenant) {
            return None;
        }
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= MOST && !sources.contains_key(&tenant) {
            sources.clear();
        }
        let source = sources.entry(tenant.clone()).or_insert_with(|| {
            let app = IdentityConfig { tenant_id: Some(tenant), ..self.app.clone() };
            let (make_client, http) = (Arc::clone(&self.make_client), Arc::clone(&self.http));
            let client = move || http.get_or_init(|| make_client()).clone();
            Arc::new(TokenSource::new(app, client, Arc::clone(&self.clock)))
        });
        Some(Arc::clone(source))
    }
}

impl fmt::Debug for Guests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guests").field("app", &self.app).field("allowed", &self.allowed).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn guests(allowed: AllowedTenants) -> Guests {
        let app = IdentityConfig { tenant_id: Some("HOME".into()), ..IdentityConfig::default() };
        Guests::new(app, allowed, || Err("nobody asks".into()), Arc::new(SystemClock))
    }

    #[test]
    fn only_allowed_tenants_are_asked_and_never_our_own() {
        let these = guests(AllowedTenants::These(["abc".to_owned()].into()));
        let asked = |guests: &Guests| ["ABC", "def", "home"].map(|tenant| guests.tokens_of(tenant).is_some());
        assert_eq!(asked(&these), [true, false, false]);
        assert_eq!(asked(&guests(AllowedTenants::All)), [true, true, false]);
        assert_eq!(asked(&guests(AllowedTenants::None)), [false; 3]);
    }

    #[test]
    fn a_tenants_tokens_are_shared_and_their_number_is_bounded() {
        let guests = guests(AllowedTenants::All);
        assert!(Arc::ptr_eq(&guests.tokens_of("a").unwrap(), &guests.tokens_of("A").unwrap()));
        for number in 0..2 * MOST {
            guests.tokens_of(&number.to_string());
            assert!(guests.sources.lock().unwrap().len() <= MOST);
        }
    }
}
