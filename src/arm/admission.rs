//! How many calls go at once, and which go first.
//!
//! Posts are admitted before looks: a post that waits delays its refresh, a look that waits only makes the next one fewer.
//! Looks do not starve, because the rollout bounds its posts. Within a class it is first come, first served. Knows nothing
//! of ARM's own limits: that is [`super::throttle`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It starts something.
    Post,
    /// It only looks.
    Look,
}

/// The gate that calls pass.
#[derive(Clone, Debug)]
pub struct Admission {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    free: usize,
    posts: VecDeque<oneshot::Sender<Permit>>,
    looks: VecDeque<oneshot::Sender<Permit>>,
}

/// The right to make one call; dropping it admits the next one.
#[derive(Debug)]
pub struct Permit {
    state: Arc<Mutex<State>>,
}

impl Admission {
    /// A gate for `at_once` calls, at least one.
    pub fn new(at_once: usize) -> Self {
        let state = State { free: at_once.max(1), posts: VecDeque::new(), looks: VecDeque::new() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Waits until the call may go. Giving up while waiting loses nothing.
    pub async fn admit(&self, class: Class) -> Permit {
        let turn = {
            let mut state = lock(&self.state);
            if state.free > 0 {
                state.free -= 1;
                return Permit { state: Arc::clone(&self.state) };
            }
            let (caller, turn) = oneshot::channel();
            match class {
                Class::Post => state.posts.push_back(caller),
                Class::Look => state.looks.push_back(caller),
            }
            turn
        };
        turn.await.expect("a waiting caller is dropped only once it has been called")
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let next = {
            let mut state = lock(&self.state);
            loop {
                let waiting = state.posts.pop_front().or_else(|| state.looks.pop_front());
                match waiting {
                    Some(caller) if caller.is_closed() => {}
                    Some(caller) => break Some(caller),
                    None => {
                        state.free += 1;
                        break None;
                    }
                }
            }
        };
        if let Some(caller) = next {
            // A caller who gave up this instant drops the permit it is sent, which admits the one after it.
            let _ = caller.send(Permit { state: Arc::clone(&self.state) });
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::pin::pin;

    #[tokio::test]
    async fn no_more_calls_go_at_once_than_allowed() {
        let admission = Admission::new(2);
        let first = admission.admit(Class::Post).now_or_never().unwrap();
        let _second = admission.admit(Class::Look).now_or_never().unwrap();
        let mut third = pin!(admission.admit(Class::Post));
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(third.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_waiting_post_goes_before_looks_that_came_earlier() {
        let admission = Admission::new(1);
        let held = admission.admit(Class::Look).await;
        let mut early = pin!(admission.admit(Class::Look));
        let mut later = pin!(admission.admit(Class::Look));
        let mut post = pin!(admission.admit(Class::Post));
        for waiting in [early.as_mut(), later.as_mut(), post.as_mut()] {
            assert!(waiting.now_or_never().is_none());
        }
        drop(held);
        assert!(early.as_mut().now_or_never().is_none());
        let permit = post.now_or_never().expect("the post is admitted first");
        drop(permit);
        assert!(later.as_mut().now_or_never().is_none());
        drop(early.now_or_never().expect("looks go in the order they came"));
        assert!(later.now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_caller_that_gives_up_does_not_take_its_place_along() {
        let admission = Admission::new(1);
        let held = admission.admit(Class::Post).await;
        let mut called_and_gone = Box::pin(admission.admit(Class::Post));
        let mut gone = Box::pin(admission.admit(Class::Post));
        assert!(called_and_gone.as_mut().now_or_never().is_none());
        assert!(gone.as_mut().now_or_never().is_none());
        drop(gone);
        drop(held);
        drop(called_and_gone);
        assert!(admission.admit(Class::Look).now_or_never().is_some());
    }
}
