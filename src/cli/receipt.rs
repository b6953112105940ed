//! `lockstep receipt`.

use std::path::Path;

use futures_util::TryStreamExt as _;
use reqwest::Method;

use super::args::ReceiptArgs;
use super::client::Client;
use super::error::CliError;
use super::screen::Screen;
use crate::protocol::api::StreamName;
use crate::receipt::RECEIPT_BYTES_MAX;

/// Fetches a receipt and writes it as it came: every byte of it counts.
pub async fn receipt(client: &Client, args: &ReceiptArgs) -> Result<u8, CliError> {
    let id = args.id.to_string();
    let query: Vec<_> = args.revision.iter().map(|revision| ("revision", *revision)).collect();
    let request = client.request(Method::GET, &["runs", &id, "receipt"]).query(&query);
    let mut pieces = client.stream(request).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.try_next().await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > RECEIPT_BYTES_MAX {
            let why = "it is longer than any receipt".to_owned();
            return Err(CliError::Broken { doing: "reading the receipt", why });
        }
    }
    let path = &args.output;
    if path == Path::new("-") {
        Screen::new(true).guest(StreamName::Stdout, &bytes)?;
    } else {
        std::fs::write(path, &bytes).map_err(CliError::file("write", path))?;
    }
    Ok(0)
}
