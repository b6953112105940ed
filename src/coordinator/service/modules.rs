//! Use cases of modules: upload and admission, reading, quarantine, deletion.
//!
//! A module is admitted once, here: analysed and compiled in a child process. What the child refuses is refused for
//! good. A run may be submitted as soon as the analysis is known; it waits for the artifact.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;

use super::{Caller, ModuleFacts, Prepared, Service, ServiceError};
use crate::blobs::BlobSource;
use crate::compiler::AdmitError;
use crate::coordinator::owner::Command;
use crate::coordinator::service::PoolEvent;
use crate::digest::Digest;
use crate::sandbox::{Analysis, Variant, check_entry};
use crate::spec::{Profile, Verify};
use crate::store::{ModuleState, StoredModule, WriteAnswer};

/// How long the first run with fuel, or of the other profile, waits for its machine code before it is accepted without knowing.
const VARIANT_WAIT: Duration = Duration::from_secs(10);

/// Between two tries to compile a module after trouble of our own, at first and at most.
const ADMISSION_PAUSE: Duration = Duration::from_millis(500);
const ADMISSION_PAUSE_MAX: Duration = Duration::from_secs(60);

impl Service {
    /// Stores and admits a module as it streams in. True if it was there before. Waits `wait` for the admission;
    /// a module that is still being compiled then is answered as such, and runs of it wait.
    pub async fn upload_module<E: std::fmt::Display>(
        &self,
        _caller: &Caller,
        body: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
        expected: Option<Digest>,
        name: Option<String>,
        wait: Duration,
    ) -> Result<(StoredModule, bool), ServiceError> {
        if let Some(digest) = expected
            && let Some(known) = self.parts.store.module(digest).await?
        {
            return already_there(known);
        }
        let pin = self.pin();
        let max = self.parts.facts.module_bytes_max;
        let (digest, size) = self.parts.blobs.put_stream(body, expected, max, pin).await?;
        if let Some(known) = self.parts.store.module(digest).await? {
            return already_there(known);
        }
        let (module, is_new) = self.analyse(digest, size, name).await?;
        if !is_new {
            // somebody else uploaded the same at the same time
            return already_there(module);
        }
        // the compilation goes on when the caller hangs up: its outcome is for everybody
        let (service, compiling) = (self.clone(), module.clone());
        let compilation = tokio::spawn(async move { service.compile(compiling).await });
        match tokio::time::timeout(wait, compilation).await {
            Ok(Ok(answer)) => answer.map(|module| (module, false)),
            Ok(Err(panic)) => Err(ServiceError::Internal(format!("admission failed: {panic}"))),
            Err(_) => Ok((module, false)),
        }
    }

    /// Analyses a module that was just stored, and makes its row: from here on runs of it may be submitted. Answers the row,
    /// and whether it is new.
    async fn analyse(
        &self,
        digest: Digest,
        size: u64,
        name: Option<String>,
    ) -> Result<(StoredModule, bool), ServiceError> {
        let analysis = match self.parts.compiler.analyse(digest, self.module_file(digest).await?).await {
            Ok(analysis) => analysis,
            // what cannot be parsed is no module: nothing of it is kept
            Err(AdmitError::Refused(refusal)) => {
                let (code, text) = (refusal.code().to_owned(), refusal.to_string());
                return Err(ServiceError::ModuleRefused { code, text });
            }
            Err(error) => return Err(ServiceError::Internal(error.to_string())),
        };
        let text = serde_json::to_string(&analysis)
            .map_err(|error| ServiceError::Internal(format!("the analysis does not encode: {error}")))?;
        let module = StoredModule {
            digest,
            size,
            name,
            state: ModuleState::Compiling,
            analysis: Some(text),
            refusal: None,
            quarantined: None,
            verify: None,
            created_at: self.now(),
            nondeterministic: None,
        };
        let is_new = self.parts.store.put_module(module.clone()).await?;
        self.module_changed(digest);
        if is_new { Ok((module, true)) } else { Ok((self.module_row(digest).await?, false)) }
    }

    /// Compiles a module and tells the owner and the store how it went. Trouble of our own is no answer: it is tried again until
    /// it is over, the module is deleted, or the process ends.
    pub async fn compile(&self, module: StoredModule) -> Result<StoredModule, ServiceError> {
        let mut pause = ADMISSION_PAUSE;
        loop {
            match self.try_compile(module.digest).await {
                Ok(module) => return self.admitted(module),
                Err(error) => {
                    let module = module.digest.short();
                    tracing::warn!(%module, %error, ?pause, "a module could not be compiled; it will be tried again");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.parts.stopping.cancelled() => return Err(ServiceError::ShuttingDown),
            }
            pause = (pause * 2).min(ADMISSION_PAUSE_MAX);
        }
    }

    /// One try: the module's row as it is afterwards, `None` if it is gone. An error is trouble of our own.
    async fn try_compile(&self, digest: Digest) -> Result<Option<StoredModule>, ServiceError> {
        let Some(known) = self.parts.store.module(digest).await? else { return Ok(None) };
        if matches!(known.state, ModuleState::Ready | ModuleState::Refused) {
            return Ok(Some(known));
        }
        let (state, refusal) = match self.parts.compiler.admit(digest, self.module_file(digest).await?).await
        {
            Ok(_) => (ModuleState::Ready, None),
            Err(AdmitError::Refused(refusal)) => {
                (ModuleState::Refused, Some((refusal.code().to_owned(), refusal.to_string())))
            }
            Err(error) => return Err(ServiceError::Internal(error.to_string())),
        };
        self.parts.store.decide_module(digest, state, refusal).await?;
        self.module_changed(digest);
        Ok(self.parts.store.module(digest).await?)
    }

    /// Tells the owner how an admission ended.
    fn admitted(&self, module: Option<StoredModule>) -> Result<StoredModule, ServiceError> {
        let Some(module) = module else {
            return Err(ServiceError::Internal("the module was deleted while it was compiled".to_owned()));
        };
        let ready = module.state == ModuleState::Ready;
        let admitted = Command::Admitted { module: module.digest, ready };
        self.parts.commands.send(admitted).map_err(|_| ServiceError::ShuttingDown)?;
        match module.refusal {
            Some((code, text)) => Err(ServiceError::ModuleRefused { code, text }),
            None => Ok(module),
        }
    }

    /// Takes up the admissions that an earlier life did not finish.
    pub async fn resume_admissions(&self) -> Result<(), ServiceError> {
        let mut cursor = None;
        loop {
            let page = self.parts.store.modules(cursor, 500).await?;
            let Some(last) = page.last() else { return Ok(()) };
            cursor = Some(last.digest);
            for module in page {
                if matches!(module.state, ModuleState::Analysed | ModuleState::Compiling) {
                    let service = self.clone();
                    tokio::spawn(async move {
                        let digest = module.digest;
                        if let Err(error) = service.compile(module).await {
                            tracing::warn!(module = %digest.short(), %error, "module was not admitted");
                        }
                    });
                }
            }
        }
    }

    fn module_changed(&self, digest: Digest) {
        self.parts.modules.forget(digest);
        let _ = self.parts.events.send((None, PoolEvent::Module(digest)));
    }

    /// The module's bytes as an open file: small ones live in a row, the compiler reads descriptors.
    async fn module_file(&self, digest: Digest) -> Result<std::fs::File, ServiceError> {
        match self.parts.blobs.open_blob(digest).await? {
            Some(BlobSource::File(file, _)) => Ok(file),
            Some(BlobSource::Inline(bytes)) => anonymous_file(&bytes)
                .map_err(|error| ServiceError::Internal(format!("no memory for a module: {error}"))),
            None => Err(ServiceError::ModuleNotThere(digest)),
        }
    }

    /// What a submission needs to know of its module, from the cache or the store.
    /// Whether it is ready, and how its runs are verified that ask for nothing else.
    pub(super) async fn check_module(
        &self,
        prepared: &Prepared,
    ) -> Result<(bool, Option<Verify>), ServiceError> {
        let digest = prepared.spec.module;
        let facts = match self.parts.modules.get(digest) {
            Some(facts) => facts,
            None => self.load_module(digest).await?,
        };
        if let Some((code, text)) = &facts.refusal {
            return Err(ServiceError::ModuleRefused { code: code.clone(), text: text.clone() });
        }
        if let Some(why) = &facts.quarantined {
            return Err(ServiceError::ModuleQuarantined(why.clone()));
        }
        if let Some(analysis) = &facts.analysis {
            check_entry(analysis, &prepared.spec.entry, &prepared.spec.args)
                .map_err(ServiceError::BadEntry)?;
        }
        let is_ready = facts.state == ModuleState::Ready;
        let variant = Variant::of(prepared.spec.profile, &prepared.spec.limits);
        if is_ready && variant != Variant::Plain {
            self.check_variant(digest, variant).await?;
        }
        Ok((is_ready, facts.verify))
    }

    /// Compiles what runs with fuel, or of the other profile, need, when the first of them is submitted: it does more at every
    /// step, so it may pass a bound that the plain machine code keeps, and the caller is to hear so. If it takes long, the run
    /// goes on without.
    async fn check_variant(&self, module: Digest, variant: Variant) -> Result<(), ServiceError> {
        let compiler = &self.parts.compiler;
        if compiler.has(module, variant) {
            return Ok(());
        }
        let file = self.module_file(module).await?;
        let compiling = compiler.artifact(module, variant, move || Ok(file));
        match tokio::time::timeout(VARIANT_WAIT, compiling).await {
            Ok(Err(AdmitError::Refused(refusal))) => Err(ServiceError::ModuleRefused {
                code: refusal.code().to_owned(),
                text: format!("{}{refusal}", with(variant)),
            }),
            Ok(Err(AdmitError::Infra(error))) => {
                // the workers try again
                tracing::warn!(module = %module.short(), %error, "code of another variant was not compiled");
                Ok(())
            }
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }

    async fn load_module(&self, digest: Digest) -> Result<Arc<ModuleFacts>, ServiceError> {
        let generation = self.parts.modules.generation();
        let row = self.parts.store.module(digest).await?.ok_or(ServiceError::ModuleNotThere(digest))?;
        let analysis: Option<Analysis> = match &row.analysis {
            Some(text) => Some(serde_json::from_str(text).map_err(|error| {
                ServiceError::Internal(format!("the analysis of {digest} does not decode: {error}"))
            })?),
            None => None,
        };
        let facts = Arc::new(ModuleFacts {
            state: row.state,
            analysis,
            refusal: row.refusal,
            quarantined: row.quarantined,
            verify: row.verify,
        });
        self.parts.modules.remember(digest, Arc::clone(&facts), generation);
        Ok(facts)
    }

    /// A module's row.
    pub async fn module(&self, _caller: &Caller, digest: Digest) -> Result<StoredModule, ServiceError> {
        self.module_row(digest).await
    }

    async fn module_row(&self, digest: Digest) -> Result<StoredModule, ServiceError> {
        self.parts.store.module(digest).await?.ok_or_else(|| no_module(digest))
    }

    /// Modules, newest first.
    pub async fn modules(
        &self,
        _caller: &Caller,
        cursor: Option<Digest>,
        limit: u32,
    ) -> Result<Vec<StoredModule>, ServiceError> {
        Ok(self.parts.store.modules(cursor, limit).await?)
    }

    /// Deletes a module that no open run needs.
    pub async fn delete_module(&self, _caller: &Caller, digest: Digest) -> Result<(), ServiceError> {
        self.module_row(digest).await?;
        let answer = self.parts.store.delete_module(digest).await?;
        self.module_changed(digest);
        match answer {
            WriteAnswer::Committed => Ok(()),
            _ => Err(ServiceError::ModuleInUse),
        }
    }

    /// Takes a module out of service: its queued runs fail, new ones are refused.
    pub async fn quarantine_module(
        &self,
        _caller: &Caller,
        digest: Digest,
        why: String,
    ) -> Result<StoredModule, ServiceError> {
        self.set_quarantine(digest, Some(why)).await
    }

    /// Puts a module back into service. One that was found to be nondeterministic is taken for deterministic again.
    pub async fn readmit_module(
        &self,
        _caller: &Caller,
        digest: Digest,
    ) -> Result<StoredModule, ServiceError> {
        self.set_quarantine(digest, None).await
    }

    /// Says how a module's runs are verified that ask for nothing else; `None`: as the pool does.
    pub async fn set_module_verify(
        &self,
        _caller: &Caller,
        digest: Digest,
        verify: Option<Verify>,
    ) -> Result<StoredModule, ServiceError> {
        if !self.parts.store.set_module_verify(digest, verify).await? {
            return Err(no_module(digest));
        }
        self.module_changed(digest);
        self.module_row(digest).await
    }

    async fn set_quarantine(
        &self,
        digest: Digest,
        why: Option<String>,
    ) -> Result<StoredModule, ServiceError> {
        self.module_row(digest).await?;
        let stored = self.ask(|stored| Command::ModuleQuarantine(digest, why, stored)).await?;
        if !super::workers::said(stored)? {
            return Err(no_module(digest));
        }
        self.module_changed(digest);
        self.module_row(digest).await
    }
}

/// A file in memory: the compiler reads descriptors.
fn anonymous_file(bytes: &[u8]) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::from(rustix::fs::memfd_create("module", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all_at(bytes, 0)?;
    Ok(file)
}

/// An upload of what is known: the answer is the one of the first time.
fn already_there(known: StoredModule) -> Result<(StoredModule, bool), ServiceError> {
    match known.refusal {
        Some((code, text)) => Err(ServiceError::ModuleRefused { code, text }),
        None => Ok((known, true)),
    }
}

fn no_module(digest: Digest) -> ServiceError {
    ServiceError::NotFound { what: "module", id: digest.to_string() }
}

/// What the code of a variant has beside the plain one, as the beginning of a sentence.
fn with(variant: Variant) -> String {
    let fuel = if variant.is_fueled() { "with the counting of fuel, " } else { "" };
    match variant.profile() {
        Profile::Det1 => fuel.to_owned(),
        profile @ Profile::Det1Portable => format!("under {profile}, {fuel}"),
    }
}
