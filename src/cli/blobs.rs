//! `lockstep blobs`.

use std::path::Path;

use super::args::{BlobsArgs, BlobsCommand};
use super::client::Client;
use super::error::CliError;
use super::modules::download;
use super::screen::Screen;
use super::upload::push_blob;
use crate::protocol::api::Blob;

/// Uploads and downloads blobs.
pub async fn blobs(client: &Client, args: &BlobsArgs) -> Result<u8, CliError> {
    let screen = Screen::new(false);
    match &args.command {
        BlobsCommand::Put { files } => {
            let mut put = Vec::with_capacity(files.len());
            for path in files {
                let hashed = push_blob(client, path).await?;
                if !args.connect.json {
                    screen.text(&format!("{}\n", hashed.digest))?;
                }
                put.push(Blob { digest: hashed.digest, size: hashed.size });
            }
            if args.connect.json {
                screen.json(&put)?;
            }
        }
        BlobsCommand::Get { digest, output } => {
            let to_stdout = output == Path::new("-");
            if args.connect.json && to_stdout {
                let why = "--json and a blob cannot both go to standard output: name a file with --output";
                return Err(CliError::Usage(why.to_owned()));
            }
            download(client, &["blobs", &digest.to_string()], "the blob", *digest, output).await?;
            if args.connect.json {
                let size = std::fs::metadata(output).map_err(CliError::file("read", output))?.len();
                screen.json(&Blob { digest: *digest, size })?;
            }
        }
    }
    Ok(0)
}
