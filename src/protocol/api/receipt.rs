//! Receipts and the keys that they are signed with.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Page, Timestamp};
use crate::receipt::PublicKey;

/// A page of public keys.
pub type KeyPage = Page<Key>;

/// A public key of the coordinator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Key {
    /// `ed25519:` and the public key in hex: the key is its own id.
    #[schema(value_type = String, examples("ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"))]
    pub keyid: PublicKey,
    /// From when on it signed.
    pub valid_from: Timestamp,
    /// Until when; null: it still does.
    #[schema(required)]
    pub valid_until: Option<Timestamp>,
}

/// A receipt: a DSSE envelope with one signature. Its payload is described in `docs/receipts.md`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Base64 of the in-toto statement.
    pub payload: String,
    /// `application/vnd.in-toto+json`.
    pub payload_type: String,
    /// One.
    pub signatures: Vec<ReceiptSignature>,
}

/// The coordinator's signature over a receipt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReceiptSignature {
    /// The public key, see `GET /v1/keys`.
    #[schema(value_type = String)]
    pub keyid: PublicKey,
    /// Base64 of the Ed25519 signature over the payload and its type, as DSSE encodes them.
    pub sig: String,
}
