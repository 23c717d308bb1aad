//! The end by Ctrl-C. Namespaces, interfaces, pins and the agent go with this process however it ends; the directory of
//! the agent's socket does not go by itself.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// What to clear away.
pub(crate) struct Interrupt {
    directory: Arc<Mutex<Option<PathBuf>>>,
}

impl Interrupt {
    /// Removes the directory of this socket when the demonstration is interrupted.
    pub(crate) fn remove_when_interrupted(&self, socket: PathBuf) {
        let mut socket = socket;
        if socket.pop() {
            *self.directory.lock().unwrap_or_else(PoisonError::into_inner) = Some(socket);
        }
    }
}

/// Waits for SIGINT, SIGTERM and SIGHUP from now on.
pub(crate) fn watch() -> Result<Interrupt> {
    let directory = Arc::new(Mutex::new(None::<PathBuf>));
    let runtime = Builder::new_current_thread().enable_io().build().context("a runtime")?;
    let [mut interrupt, mut terminate, mut hangup] = {
        let _within = runtime.enter();
        [
            signal(SignalKind::interrupt()).context("waiting for signals")?,
            signal(SignalKind::terminate()).context("waiting for signals")?,
            signal(SignalKind::hangup()).context("waiting for signals")?,
        ]
    };
    let interrupted = Arc::clone(&directory);
    thread::spawn(move || {
        let code = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
                _ = hangup.recv() => 129,
            }
        });
        if let Some(directory) = interrupted.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The agent is about to remove its socket as well.
            fs::remove_dir_all(directory).ok();
        }
        eprintln!("\ninterrupted; all that was made is gone");
        std::process::exit(code);
    });
    Ok(Interrupt { directory })
}
