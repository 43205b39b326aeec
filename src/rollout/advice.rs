//! Failures in plain words: who has to act, and what they should do. Text only; who that is was decided in
//! [`super::failure`].

use super::Actor;

/// The order in which failures are told: what blocks everybody first.
pub const ORDER: [Actor; 4] = [Actor::Offer, Actor::Publisher, Actor::Customer, Actor::Microsoft];

/// Who has to act, for a heading.
pub fn who(actor: Actor) -> &'static str {
    match actor {
        Actor::Offer => "The publisher, on the offer itself",
        Actor::Publisher => "The publisher",
        Actor::Customer => "The customer",
        Actor::Microsoft => "Microsoft",
    }
}

/// What to do about an error, by its code where the code says more than the actor (contracts/arm.md §2.6).
pub fn what_to_do(actor: Actor, code: &str) -> &'static str {
    match (actor, code.to_ascii_lowercase().as_str()) {
        (Actor::Offer, _) => {
            "correct the permissions in the plan's technical configuration and publish a new version; do not resume this rollout"
        }
        (_, "scopelocked") => "ask the customer to remove the lock for the time of the refresh, then retry",
        (_, "requestdisallowedbypolicy") => {
            "ask the customer for an exemption from the policy that the message names, then retry"
        }
        (_, "readonlydisabledsubscription") => "ask the customer to enable the subscription again, then retry",
        (_, "subscriptionnotregistered" | "missingsubscriptionregistration") => {
            "ask the customer to register the resource provider that the message names, then retry"
        }
        (
            _,
            "authorizationfailed" | "forbidden" | "linkedauthorizationfailed" | "denyassignmentauthorizationfailed",
        ) => "grant the identity the rights that the message names, then retry",
        (_, "notoken") => "give the service an identity that gets tokens, as the message says, then retry",
        (_, "timedout") => "retry; if it happens again, open a support request with the correlation id",
        (Actor::Publisher, _) => "look at the message and at the application in the Azure portal, then retry",
        (Actor::Customer, _) => "send the message to the customer; retry when they have acted",
        (Actor::Microsoft, _) => "retry later; if it happens again, open a support request with the correlation id",
    }
}
