//! The embedded workers: agents in this process, spoken to by channel.
//!
//! Each has its own key and row, like any other worker, so that its votes and its evidence are its own.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::owner::Command;
use super::{CoordinatorConfig, CoordinatorError};
use crate::agent::{self, AgentConfig, Input, InputSource};
use crate::blobs::{BlobSource, Blobs};
use crate::class::{ClassInputs, Classes};
use crate::compiler::Compiler;
use crate::core::{OWN_DOMAIN, Time};
use crate::digest::Digest;
use crate::protocol::agent::ToAgent;
use crate::store::{Enrolment, Store};

/// Sessions of embedded workers last as long as the process: there is only one of each.
const SESSION: u64 = 0;

/// The embedded workers of a coordinator.
pub struct Embedded {
    links: Vec<(mpsc::Sender<ToAgent>, JoinHandle<()>, JoinHandle<()>)>,
}

/// The coordinator's own blobs, without a hop.
struct LocalInputs {
    blobs: Arc<Blobs>,
}

#[async_trait::async_trait]
impl InputSource for LocalInputs {
    async fn open(&self, digest: Digest) -> Result<Option<Input>, String> {
        let source = self.blobs.open_blob(digest).await.map_err(|error| error.to_string())?;
        Ok(source.map(|source| match source {
            BlobSource::Inline(bytes) => Input::Inline(bytes),
            BlobSource::File(file, size) => Input::File(file, size),
        }))
    }
}

impl Embedded {
    /// Enrols and starts one for each key; they join by their own first word.
    pub async fn start(
        config: &CoordinatorConfig,
        (classes, about): (Classes, &[ClassInputs]),
        keys: Vec<SigningKey>,
        (store, blobs): (&dyn Store, &Arc<Blobs>),
        compiler: &Compiler,
        commands: &mpsc::UnboundedSender<Command>,
        now: Time,
    ) -> Result<Embedded, CoordinatorError> {
        let mut links = Vec::new();
        for (number, key) in (1_u32..).zip(keys) {
            // the last ones are arbiters
            let arbiter = number > config.workers;
            let name = match number.checked_sub(config.workers) {
                Some(number) if arbiter => format!("arbiter-{number}"),
                _ => format!("local-{number}"),
            };
            let enrolment = Enrolment {
                key: key.verifying_key().to_bytes(),
                name: name.clone(),
                domain: OWN_DOMAIN.to_owned(),
                embedded: true,
                owned: true,
                arbiter,
                token: None,
                at: now,
            };
            let row = store.enrol_worker(enrolment).await?;
            let exe = config.exe.clone();
            let agent = AgentConfig {
                heartbeat_ms: config.heartbeat_ms,
                outputs_bytes_max: config.worker_outputs_bytes_max,
                spares: config.spare_runners as usize,
                parked_max: config.parked_runners as usize,
                begin_ms: config.begin_ms,
                about: about.to_vec(),
                ..AgentConfig::new(name, exe, config.slots, config.worker_memory_bytes, classes)
            };
            let inputs = Arc::new(LocalInputs { blobs: Arc::clone(blobs) });
            let handle = agent::start(agent, inputs, Arc::new(compiler.clone()))
                .map_err(|error| CoordinatorError::Worker(number, error.to_string()))?;
            let worker = row.id;
            let joined =
                Command::Join { row: Box::new(row), to: handle.to.clone(), session: SESSION, remote: None };
            let _ = commands.send(joined);
            links.push((handle.to, forward(worker, handle.from, commands.clone()), handle.ended));
        }
        Ok(Embedded { links })
    }

    /// Ends them, and with them their runners.
    pub async fn stop(self) {
        for (to, forwarder, ended) in self.links {
            drop(to);
            forwarder.abort();
            let _ = ended.await;
        }
    }
}

/// Passes what a worker says on to the owner; ends with the worker.
fn forward(
    worker: crate::id::WorkerId,
    mut from: mpsc::Receiver<crate::protocol::agent::FromAgent>,
    commands: mpsc::UnboundedSender<Command>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(message) = from.recv().await {
            if commands.send(Command::Said(worker, SESSION, message)).is_err() {
                return;
            }
        }
        let _ = commands.send(Command::Gone(worker, SESSION));
    })
}
