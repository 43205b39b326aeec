//! A load of the same request over many connections, and the first answer of a program that has just been
//! started. As little as possible stands between the numbers: the client speaks to a socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A request as it goes over the wire.
pub fn request(method: &str, path: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json; charset=utf-8\r\n\
         X-Azure-Functions-InvocationId: 6f1c2d1e-0b7a-4f61-9a53-2f0f6d3c9b10\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// One connection that is kept.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub async fn open(to: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(4096) })
    }

    /// Sends `request` and reads the whole answer; its status.
    pub async fn ask(&mut self, request: &[u8]) -> anyhow::Result<u16> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the connection was closed in the middle of an answer");
            }
            let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&self.buffer[..end])?;
            let status = head.get(9..12).context("an answer without a status")?.parse::<u16>()?;
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            let whole = end + 4 + length.context("an answer without a length")?;
            while self.buffer.len() < whole {
                if self.stream.read_buf(&mut self.buffer).await? == 0 {
                    bail!("the connection was closed in the middle of an answer");
                }
            }
            return Ok(status);
        }
    }
}

/// How many answers a second `connections` at once got for `request` during `time`. Every answer has to be a 200.
pub async fn per_second(to: SocketAddr, request: Vec<u8>, connections: usize, time: Duration) -> anyhow::Result<f64> {
    let (request, stop) = (Arc::new(request), Arc::new(AtomicBool::new(false)));
    let mut tasks = tokio::task::JoinSet::new();
    let begin = Instant::now();
    for _ in 0..connections {
        let (request, stop) = (Arc::clone(&request), Arc::clone(&stop));
        tasks.spawn(async move {
            let mut connection = Connection::open(to).await?;
            let mut answers = 0u32;
            while !stop.load(Ordering::Relaxed) {
                match connection.ask(&request).await? {
                    200 => answers += 1,
                    status => bail!("an invocation was answered with {status}"),
                }
            }
            anyhow::Ok(answers)
        });
    }
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut answers = 0;
    while let Some(counted) = tasks.join_next().await {
        answers += counted??;
    }
    Ok(f64::from(answers) / begin.elapsed().as_secs_f64())
}

/// Waits until `GET /` is answered at `address`, looking anew every 50 µs: shorter than anything that is measured here.
pub fn until_answered(address: SocketAddr, deadline: Instant) -> anyhow::Result<()> {
    use std::io::{Read as _, Write as _};
    let mut stream = loop {
        match std::net::TcpStream::connect(address) {
            Ok(stream) => break stream,
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_micros(50)),
        }
    };
    stream.set_nodelay(true)?;
    stream.write_all(&request("GET", "/", ""))?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    if &answer[9..] != b"200" {
        bail!("the first request was answered with {}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}
