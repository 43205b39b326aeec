//! Whether a delegation that Azure shows lets us refresh (contracts/access.md §3.5).
//!
//! Says what it found for each assignment, so that a person sees which part is missing. What ARM refuses to show is not here.
