//! A log that a test keeps in memory: what was written, to be searched for what must not be in it.

use std::io::Write;
use std::sync::{Arc, LazyLock, Mutex};

use tracing::subscriber::{DefaultGuard, NoSubscriber, set_default};
use tracing::{Dispatch, Subscriber};
use tracing_subscriber::fmt::MakeWriter;

/// Has what this thread logs go to `subscriber` until the guard is dropped.
pub fn on_this_thread(subscriber: impl Subscriber + Send + Sync + 'static) -> DefaultGuard {
    // While there is one subscriber only, tracing asks the thread that reaches a line first whether anybody wants it, and
    // takes that for everybody's answer; other tests have none.
    static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::new()));
    LazyLock::force(&ANOTHER);
    set_default(subscriber)
}

/// What was logged; its clones write to the same.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
