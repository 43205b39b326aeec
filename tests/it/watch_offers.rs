//! WatchOffers through the whole loop: the timer fires, Partner Center answers, rollouts follow; each publish once.

mod changes;
mod known;
mod raising;
mod scene;

pub use scene::watch;
