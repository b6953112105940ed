//! A network between worker and coordinator that a test or a benchmark can cut, block or move.

#![expect(clippy::unwrap_used, reason = "what cannot go on has failed")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    /// They go nowhere, and nobody is told.
    Block,
    /// Connections are closed and refused.
    Refuse,
}

#[derive(Clone, Copy)]
struct State {
    mode: Mode,
    target: SocketAddr,
    /// Connections of an older generation end.
    generation: u64,
}

/// The network.
pub struct Proxy {
    pub url: String,
    state: watch::Sender<State>,
    /// A connection that has sent so many bytes towards the coordinator is cut, once.
    cut_after: Arc<AtomicU64>,
}

fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().unwrap()
}

impl Proxy {
    pub async fn to(url: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url_here = format!("http://{}", listener.local_addr().unwrap());
        let (state, _) = watch::channel(State { mode: Mode::Pass, target: address(url), generation: 0 });
        let cut_after = Arc::new(AtomicU64::new(u64::MAX));
        let (states, limit) = (state.subscribe(), Arc::clone(&cut_after));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if states.borrow().mode != Mode::Refuse {
                    tokio::spawn(carry(client, states.clone(), Arc::clone(&limit)));
                }
            }
        });
        Proxy { url: url_here, state, cut_after }
    }

    fn set(&self, mode: Mode, cut: bool) {
        self.state.send_modify(|state| {
            state.mode = mode;
            state.generation += u64::from(cut);
        });
    }

    /// Closes every connection; new ones work.
    pub fn cut(&self) {
        self.set(Mode::Pass, true);
    }

    /// Closes every connection and refuses new ones.
    pub fn refuse(&self) {
        self.set(Mode::Refuse, true);
    }

    /// Swallows everything without a word.
    pub fn block(&self) {
        self.set(Mode::Block, false);
    }

    /// Works again; what was swallowed is gone with its connections.
    pub fn heal(&self) {
        self.set(Mode::Pass, true);
    }

    /// Leads elsewhere from now on.
    pub fn lead_to(&self, url: &str) {
        self.state.send_modify(|state| {
            state.target = address(url);
            state.mode = Mode::Pass;
            state.generation += 1;
        });
    }

    /// Cuts the next connection that has sent so many bytes.
    pub fn cut_after(&self, bytes: u64) {
        self.cut_after.store(bytes, Ordering::SeqCst);
    }

    /// Whether that has happened.
    pub fn has_cut(&self) -> bool {
        self.cut_after.load(Ordering::SeqCst) == u64::MAX
    }
}

async fn carry(client: TcpStream, states: watch::Receiver<State>, limit: Arc<AtomicU64>) {
    let State { target, generation, .. } = *states.borrow();
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let none = Arc::new(AtomicU64::new(u64::MAX));
    tokio::select! {
        () = copy(client_read, server_write, states.clone(), limit) => {}
        () = copy(server_read, client_write, states.clone(), none) => {}
        () = newer(states, generation) => {}
    }
}

async fn newer(mut states: watch::Receiver<State>, generation: u64) {
    drop(states.wait_for(|state| state.generation != generation).await);
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut states: watch::Receiver<State>,
    limit: Arc<AtomicU64>,
) {
    let mut piece = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        let Ok(count @ 1..) = from.read(&mut piece).await else { return };
        drop(states.wait_for(|state| state.mode != Mode::Block).await);
        total += count as u64;
        let bound = limit.load(Ordering::SeqCst);
        if total > bound
            && limit.compare_exchange(bound, u64::MAX, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        {
            return;
        }
        if to.write_all(&piece[..count]).await.is_err() {
            return;
        }
    }
}
