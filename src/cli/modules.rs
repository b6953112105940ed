//! `lockstep push` and `lockstep modules`.

use std::path::Path;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use reqwest::Method;

use super::args::{ModulesArgs, ModulesCommand, PushArgs};
use super::client::Client;
use super::error::CliError;
use super::parse::ModuleRef;
use super::screen::Screen;
use super::show;
use super::upload::{COMPILE_WAIT, push_module, wait_until_ready};
use crate::digest::{Digest, Hasher};
use crate::protocol::api::{Module, QuarantineRequest, VerifyRequest};

/// The most modules that are listed or searched for a prefix.
const MODULES_MAX: usize = 10_000;

/// Uploads modules.
pub async fn push(client: &Client, args: &PushArgs) -> Result<u8, CliError> {
    if args.name.is_some() && args.files.len() > 1 {
        return Err(CliError::Usage("--name goes with one file".to_owned()));
    }
    let screen = Screen::new(false);
    let mut pushed_modules = Vec::new();
    for path in &args.files {
        let wait = if args.no_wait { Duration::ZERO } else { COMPILE_WAIT };
        let pushed = push_module(client, path, args.name.as_deref(), wait).await?;
        let module = match args.no_wait {
            true => pushed.module,
            false => wait_until_ready(client, pushed.module).await?,
        };
        if !args.connect.json {
            let kind = module.analysis.as_ref().and_then(|analysis| analysis.get("kind")?.as_str());
            let there = if pushed.was_there { ", was there" } else { "" };
            let kind = kind.unwrap_or("module");
            screen.text(&format!("{}  {kind}, {}{there}\n", module.digest, show::verifiable(&module)))?;
            for note in show::module_notes(&module) {
                screen.text(&format!("  {note}\n"))?;
            }
            if let Some(why) = &module.quarantined {
                screen.note(&format!("it is quarantined: {why}"));
            }
        }
        pushed_modules.push(module);
    }
    match (args.connect.json, pushed_modules.as_slice()) {
        (true, [module]) => screen.json(module)?,
        (true, modules) => screen.json(&modules)?,
        (false, _) => {}
    }
    Ok(0)
}

/// The digest that a whole digest or its first digits mean.
pub async fn resolve(client: &Client, module: &ModuleRef) -> Result<Digest, CliError> {
    if let Some(digest) = module.digest() {
        return Ok(digest);
    }
    let prefix = module.prefix().ok_or_else(|| CliError::NoModule(module.0.clone()))?;
    let modules: Vec<Module> = client.list(&["modules"], &[], MODULES_MAX).await?;
    let mut found =
        modules.iter().map(|module| module.digest).filter(|digest| digest.hex().starts_with(prefix));
    match (found.next(), found.count()) {
        (Some(digest), 0) => Ok(digest),
        (None, _) => Err(CliError::NoModule(module.0.clone())),
        (Some(_), more) => Err(CliError::AmbiguousModule { prefix: prefix.to_owned(), count: more + 1 }),
    }
}

/// Lists and manages modules.
pub async fn modules(client: &Client, args: &ModulesArgs) -> Result<u8, CliError> {
    let screen = Screen::new(false);
    let json = args.connect.json;
    let one = async |module: &ModuleRef| resolve(client, module).await.map(|digest| digest.to_string());
    let print = |module: &Module| match json {
        true => screen.json(module),
        false => screen.text(&show::module(module)),
    };
    match args.command.as_ref().unwrap_or(&ModulesCommand::List) {
        ModulesCommand::List => {
            let modules: Vec<Module> = client.list(&["modules"], &[], MODULES_MAX).await?;
            match (json, modules.is_empty()) {
                (true, _) => screen.json(&modules)?,
                (false, true) => screen.note("no modules yet; `lockstep push app.wasm` uploads one"),
                (false, false) => screen.text(&show::modules(&modules))?,
            }
        }
        ModulesCommand::Show { module } => print(&client.get(&["modules", &one(module).await?]).await?)?,
        ModulesCommand::Rm { modules } => {
            for module in modules {
                client.delete(&["modules", &one(module).await?]).await?;
            }
        }
        ModulesCommand::Quarantine { module, why } => {
            let digest = one(module).await?;
            let body = QuarantineRequest { why: why.clone() };
            let segments = ["modules", &digest, "quarantine"];
            print(&client.post_json(&segments, &body, &[], Duration::ZERO).await?)?;
        }
        ModulesCommand::Verify { module, policy } => {
            let digest = one(module).await?;
            let segments = ["modules", &digest, "verify"];
            let answer: Module = match policy.0 {
                Some(verify) => client.put_json(&segments, &VerifyRequest::from(verify)).await?,
                None => client.json(client.request(Method::DELETE, &segments)).await?,
            };
            print(&answer)?;
        }
        ModulesCommand::Readmit { module } => {
            print(&client.post(&["modules", &one(module).await?, "readmit"]).await?)?;
        }
        ModulesCommand::Download { module, output } => {
            let digest = resolve(client, module).await?;
            let segments = ["modules", &digest.to_string(), "content"];
            download(client, &segments, "the module", digest, output).await?;
        }
    }
    Ok(0)
}

/// Writes what is there to a file, whole and checked, or to standard output.
pub async fn download(
    client: &Client,
    segments: &[&str],
    what: &'static str,
    digest: Digest,
    output: &Path,
) -> Result<(), CliError> {
    if output == Path::new("-") {
        let mut pieces = client.download(segments).await?;
        let mut hasher = Hasher::new();
        while let Some(piece) = pieces.try_next().await? {
            hasher.update(&piece);
            let mut stdout = std::io::stdout().lock();
            std::io::Write::write_all(&mut stdout, &piece).map_err(CliError::Output)?;
        }
        return match hasher.finish() {
            actual if actual == digest => Ok(()),
            actual => Err(CliError::Damaged { what, expected: digest, actual }),
        };
    }
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut part = tempfile::NamedTempFile::new_in(parent).map_err(CliError::file("write in", parent))?;
    let write =
        |bytes: &[u8]| std::io::Write::write_all(&mut part, bytes).map_err(CliError::file("write", output));
    client.fetch(segments, what, digest, write).await?;
    part.persist(output).map_err(|error| CliError::file("write", output)(error.error))?;
    Ok(())
}
