//! What must survive: handlers that die after any effect, messages that come twice, late or never, stores and queues that
//! fail for minutes, two handlers at once, clocks that jump. The end is the same each time.
//!
//! Faults come from [`crate::faults`]; what is compared is in [`scene`].

mod callers;
mod delivery;
mod held_up;
mod kill;
mod lives;
mod outage;
mod pair;
pub mod scene;
mod sync;
mod time;
