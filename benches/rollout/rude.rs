//! Clients that one would rather not have: some send a byte now and then, some break off, some send too much. What they are
//! answered is counted; how the others fare meanwhile is measured elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::service::SIG;

/// How many clients never come to the end of their headers, and as many never to the end of their bodies.
pub const SLOW: usize = 300;
/// How many break off at a time.
const BROKEN: usize = 16;
/// How many send too much at a time.
const GREEDY: usize = 4;
/// Larger than any notification may be.
const TOO_MUCH: usize = 2 * 1024 * 1024;

/// They are at it until this is dropped.
pub struct Rude {
    _tasks: JoinSet<()>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    broken: AtomicUsize,
    refused: AtomicUsize,
    unanswered: AtomicUsize,
    taken: AtomicUsize,
}

impl Rude {
    /// All of them begin.
    pub fn begin(to: SocketAddr) -> Self {
        let (mut tasks, counts) = (JoinSet::new(), Arc::new(Counts::default()));
        for _ in 0..SLOW {
            tasks.spawn(async move { drop(slow(to, &head(1)[..40], b"X").await) });
            tasks.spawn(async move { drop(slow(to, &head(100_000), b" ").await) });
        }
        for number in 0..BROKEN {
            let counts = Arc::clone(&counts);
            tasks.spawn(async move {
                loop {
                    drop(break_off(to, number % 4).await);
                    counts.broken.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        }
        for _ in 0..GREEDY {
            let counts = Arc::clone(&counts);
            tasks.spawn(async move {
                loop {
                    let counter = match send_too_much(to).await {
                        Ok(413) => &counts.refused,
                        Ok(_) => &counts.taken,
                        Err(_) => &counts.unanswered,
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        }
        Self { _tasks: tasks, counts }
    }

    /// What they did and were answered so far.
    pub fn words(&self) -> String {
        let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
        let Counts { broken, refused, unanswered, taken } = &*self.counts;
        format!(
            "{} slow connections, {} broken off; of bodies that were too large {} refused with 413, {} cut off, {} taken",
            2 * SLOW,
            count(broken),
            count(refused),
            count(unanswered),
            count(taken)
        )
    }
}

/// A head that promises a body of that length.
fn head(length: usize) -> Vec<u8> {
    format!(
        "POST /api/notification/resource?sig={SIG} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    )
    .into_bytes()
}

async fn slow(to: SocketAddr, begin: &[u8], then: &[u8]) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(begin).await?;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        stream.write_all(then).await?;
    }
}

async fn break_off(to: SocketAddr, how: usize) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    match how {
        // With a reset in the middle of the head.
        0 => {
            stream.write_all(&head(1)[..40]).await?;
            stream.set_zero_linger()?;
        }
        // In the middle of the body, with a reset and without.
        1 => {
            stream.write_all(&head(1_000)).await?;
            stream.write_all(b"{\"eventType\":").await?;
            stream.set_zero_linger()?;
        }
        2 => {
            stream.write_all(&head(1_000)).await?;
            stream.write_all(b"{\"eventType\":").await?;
        }
        // No HTTP at all.
        _ => {
            stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").await?;
            let mut answer = [0; 64];
            let _whatever = stream.read(&mut answer).await?;
        }
    }
    Ok(())
}

async fn send_too_much(to: SocketAddr) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(&head(TOO_MUCH)).await?;
    let (mut reader, mut writer) = stream.split();
    let body = vec![b' '; TOO_MUCH];
    let mut answer = [0; 12];
    // The answer may come before the body is through, and that is the end of it.
    let read = async {
        reader.read_exact(&mut answer).await?;
        std::io::Result::Ok(())
    };
    tokio::pin!(read);
    tokio::select! {
        read = &mut read => read?,
        written = writer.write_all(&body) => {
            let _cut_off = written;
            read.await?;
        }
    }
    Ok(std::str::from_utf8(&answer[9..]).ok().and_then(|status| status.parse().ok()).unwrap_or_default())
}
