//! Tells the host's parts that no new work is to be taken. It stops nothing by force.

use tokio::sync::watch;

/// Says it.
#[derive(Clone, Debug)]
pub struct StopSignal(watch::Sender<bool>);

/// Hears it.
#[derive(Clone, Debug)]
pub struct Stopping(watch::Receiver<bool>);

impl StopSignal {
    /// The two ends.
    pub fn new() -> (Self, Stopping) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), Stopping(receiver))
    }

    /// No new work from now on.
    pub fn send(&self) {
        self.0.send_replace(true);
    }
}

impl Stopping {
    /// Whether it was said.
    pub fn now(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once it was said, or once nobody is left to say it.
    pub async fn wait(&mut self) {
        let _nobody_left = self.0.wait_for(|stopping| *stopping).await;
    }
}
