//! The one place that sees the refresh token: access tokens for (tenant, audience), kept in memory until shortly before
//! their end.
//!
//! Every exchange reads the token from its vault anew, so that a new sign-in or a rotation by another instance counts at
//! once. The replacement that comes with each exchange is dropped here: the one in the vault stays valid, and
//! one writer a day ([`crate::access::gdap::Broker::exchange`] for RenewTokens) is enough to keep it alive.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::exchange::{Exchange, Refused, Tokens, usable};
use super::oauth::Reaction;
use super::partner;
use super::trouble::GdapError;
use super::vault::{StoredToken, Vault};
use crate::access::credential::BearerToken;
use crate::rollout::Timestamp;

/// Access tokens of the app and its user.
pub struct Broker {
    exchange: Exchange,
    vault: Vault,
    /// The partner's own tenant, whose word about the sign-in counts.
    home: String,
    slots: Mutex<HashMap<(String, String), Arc<Slot>>>,
    /// The version of the secret that Entra takes no longer, and why.
    dead: Mutex<Option<(String, String)>>,
}

#[derive(Default)]
struct Slot {
    held: Mutex<Option<(BearerToken, Timestamp)>>,
    /// Locked while a request is in flight.
    flight: tokio::sync::Mutex<()>,
}

impl Broker {
    /// A broker over an endpoint and a vault, for the user of the partner's tenant.
    pub fn new(exchange: Exchange, vault: Vault, partner_tenant: &str) -> Self {
        Self {
            exchange,
            vault,
            home: partner_tenant.to_ascii_lowercase(),
            slots: Mutex::default(),
            dead: Mutex::default(),
        }
    }

    /// The vault; for who signs in and who rotates.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// The token endpoint.
    pub fn endpoint(&self) -> &Exchange {
        &self.exchange
    }

    /// A token of `tenant` for `scope` (`https://management.azure.com/.default`). One request is in flight for each.
    pub async fn token(&self, tenant: &str, scope: &str) -> Result<BearerToken, GdapError> {
        let slot = self.slot(tenant, scope);
        if let Some(token) = self.held(&slot) {
            return Ok(token);
        }
        let _flight = slot.flight.lock().await;
        if let Some(token) = self.held(&slot) {
            return Ok(token);
        }
        self.fetch(&slot, tenant, scope).await
    }

    /// A token other than `refused`, which the service did not take.
    pub async fn fresh(&self, tenant: &str, scope: &str, refused: &BearerToken) -> Result<BearerToken, GdapError> {
        let slot = self.slot(tenant, scope);
        let _flight = slot.flight.lock().await;
        if let Some(token) = self.held(&slot).filter(|held| held != refused) {
            return Ok(token);
        }
        self.fetch(&slot, tenant, scope).await
    }

    /// Forgets the tokens of a tenant: what they may do has changed.
    pub fn forget(&self, tenant: &str) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).retain(|(known, _), _| known != tenant);
    }

    /// Exchanges what is in the vault, whatever is cached: the tokens, and what was read. A token that Entra takes no longer
    /// is asked about once; after that everything waits for another version.
    ///
    /// A customer's tenant alone cannot say that it is dead: its conditional access asks for a second factor in the same words,
    /// and one customer must not stop all others. So our own tenant is asked as well.
    pub async fn exchange(&self, tenant: &str, scope: &str) -> Result<(Tokens, StoredToken), GdapError> {
        let mut stored = self.stored().await?;
        loop {
            if let Some((version, why)) = self.dead.lock().unwrap_or_else(PoisonError::into_inner).as_ref()
                && *version == stored.version
            {
                return Err(GdapError::SignInAgain { why: why.clone() });
            }
            let refused = match self.exchange.refresh(tenant, &stored.refresh_token, scope).await {
                Ok(tokens) => return Ok((tokens, stored)),
                Err(refused) => refused,
            };
            let GdapError::SignInAgain { why } = GdapError::of_refusal(refused.clone(), tenant) else {
                return Err(GdapError::of_refusal(refused, tenant));
            };
            let newest = self.stored().await?;
            if newest.version != stored.version {
                // Somebody signed in or rotated between our reading and Entra's.
                stored = newest;
                continue;
            }
            if !tenant.eq_ignore_ascii_case(&self.home) {
                self.confirm_at_home(tenant, &stored, &why).await?;
            }
            *self.dead.lock().unwrap_or_else(PoisonError::into_inner) = Some((stored.version, why.clone()));
            return Err(GdapError::SignInAgain { why });
        }
    }

    /// `Ok` if our own tenant too wants a new sign-in; else what `why` means, which a customer's tenant said.
    async fn confirm_at_home(&self, tenant: &str, stored: &StoredToken, why: &str) -> Result<(), GdapError> {
        let at_home = self.exchange.refresh(&self.home, &stored.refresh_token, partner::SCOPE).await;
        let reaction = match &at_home {
            Ok(_) => None,
            Err(Refused::OAuth(error)) => Some(error.reaction()),
            Err(Refused::NoAnswer(_) | Refused::NoProof(_) | Refused::CannotSign) => Some(Reaction::Retry),
        };
        match (reaction, at_home) {
            (Some(Reaction::SignInAgain), _) => Ok(()),
            (Some(Reaction::Retry), Err(refused)) => Err(GdapError::of_refusal(refused, &self.home)),
            // Whatever else is wrong at home, the token is alive.
            _ => Err(GdapError::CustomerPolicy { tenant_id: tenant.to_owned(), why: why.to_owned() }),
        }
    }

    async fn stored(&self) -> Result<StoredToken, GdapError> {
        let stored = self.vault.read().await?;
        stored.ok_or_else(|| GdapError::SignInAgain { why: "nobody has signed in yet".to_owned() })
    }

    async fn fetch(&self, slot: &Slot, tenant: &str, scope: &str) -> Result<BearerToken, GdapError> {
        let (tokens, _) = self.exchange(tenant, scope).await?;
        let token = BearerToken::new(tokens.access_token.expose()).ok_or_else(|| GdapError::Retry {
            why: "Entra's token cannot be sent in a header".to_owned(),
            wait: None,
        })?;
        let until = self.exchange.clock.now() + usable(tokens.expires_in);
        *slot.held.lock().unwrap_or_else(PoisonError::into_inner) = Some((token.clone(), until));
        Ok(token)
    }

    fn held(&self, slot: &Slot) -> Option<BearerToken> {
        let now = self.exchange.clock.now();
        let held = slot.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().filter(|(_, until)| now < *until).map(|(token, _)| token.clone())
    }

    fn slot(&self, tenant: &str, scope: &str) -> Arc<Slot> {
        let now = self.exchange.clock.now();
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        // What has run out is dropped, unless somebody waits for it.
        slots.retain(|_, slot| {
            let held = slot.held.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::strong_count(slot) > 1 || held.as_ref().is_some_and(|(_, until)| now < *until)
        });
        Arc::clone(slots.entry((tenant.to_ascii_lowercase(), scope.to_owned())).or_default())
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("vault", &self.vault).finish_non_exhaustive()
    }
}
