//! The envelope of a receipt: DSSE v1 (<https://github.com/secure-systems-lab/dsse>) with one Ed25519 signature.
//!
//! Invariant: there is exactly one file for a payload and a signature. What is read is written again and compared, so that
//! no byte of a file can differ (white space, escapes, order, padding bits, a newline at the end) without being noticed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::check::ReceiptError;
use super::text::PublicKey;
use crate::spec::canonical_json;

/// What the payload of a receipt is.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// A longer file is no receipt: content, manifest and the votes of the largest quorum together are far below it.
pub const RECEIPT_BYTES_MAX: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: [Signed; 1],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    keyid: PublicKey,
    sig: String,
}

/// The bytes that DSSE signs, its "pre-authentication encoding": type and payload, each after its length.
pub(super) fn pae(kind: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// Signs a payload and puts both into an envelope.
pub fn seal(key: &SigningKey, payload: &[u8]) -> Vec<u8> {
    let signature = key.sign(&pae(PAYLOAD_TYPE, payload));
    let sig = BASE64.encode(signature.to_bytes());
    canonical_json(&Envelope {
        payload: BASE64.encode(payload),
        payload_type: PAYLOAD_TYPE.to_owned(),
        signatures: [Signed { keyid: PublicKey::of(key), sig }],
    })
}

/// Takes the payload out of an envelope, with the key that has signed it. Whether that key is to be trusted is for the
/// caller to say.
pub(super) fn open(file: &[u8]) -> Result<(PublicKey, Vec<u8>), ReceiptError> {
    if file.len() > RECEIPT_BYTES_MAX {
        return Err(ReceiptError::TooLarge);
    }
    let form = |why: &str| ReceiptError::Form(why.to_owned());
    let envelope: Envelope =
        serde_json::from_slice(file).map_err(|error| ReceiptError::Form(error.to_string()))?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(form("the payload's type is not that of a receipt"));
    }
    let payload = BASE64.decode(&envelope.payload).map_err(|_| form("the payload is not base64"))?;
    let [Signed { keyid, sig }] = &envelope.signatures;
    let signature = BASE64.decode(sig).ok().and_then(|bytes| Signature::from_slice(&bytes).ok());
    let signature = signature.ok_or_else(|| form("the signature is not 64 bytes in base64"))?;
    let again = Envelope {
        payload: BASE64.encode(&payload),
        payload_type: envelope.payload_type,
        signatures: [Signed { keyid: *keyid, sig: BASE64.encode(signature.to_bytes()) }],
    };
    if canonical_json(&again) != file {
        return Err(form("the file is not written as receipts are, to the byte"));
    }
    let key = VerifyingKey::from_bytes(&keyid.0).map_err(|_| ReceiptError::Signature)?;
    key.verify_strict(&pae(PAYLOAD_TYPE, &payload), &signature).map_err(|_| ReceiptError::Signature)?;
    Ok((*keyid, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_that_of_the_specification() {
        // the example of DSSE's protocol.md
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
        assert_eq!(pae("", b""), b"DSSEv1 0  0 ");
        // lengths are in bytes
        assert_eq!(pae("\u{e4}", b"\x00 "), "DSSEv1 2 \u{e4} 2 \u{0} ".as_bytes());
    }

    #[test]
    fn only_the_signed_bytes_come_out() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let file = seal(&key, b"{\"a\":1}");
        assert_eq!(open(&file), Ok((PublicKey::of(&key), b"{\"a\":1}".to_vec())));
        let text = String::from_utf8(file).unwrap();
        let other = PublicKey::of(&SigningKey::from_bytes(&[2; 32])).to_string();
        let changed = [
            text.replace(&PublicKey::of(&key).to_string(), &other),
            text.replace("vnd.in-toto", "vnd.in-tote"),
            text.replace("\"keyid\"", "\"extra\":1,\"keyid\""),
            text.replace(":", ": "),
            text.replace("payloadType", "payload\\u0054ype"),
            format!("{text}\n"),
            format!(" {text}"),
            // a second signature
            text.replace("}]", "},{\"keyid\":\"x\",\"sig\":\"\"}]"),
            // the same bytes in another base64
            text.replace("eyJhIjoxfQ==", "eyJhIjoxfR=="),
            text.replace("eyJhIjoxfQ==", "eyJhIjoxfQ"),
        ];
        for changed in changed {
            assert_ne!(changed, text);
            assert!(open(changed.as_bytes()).is_err(), "{changed}");
        }
        assert_eq!(open(&vec![b' '; RECEIPT_BYTES_MAX + 1]), Err(ReceiptError::TooLarge));
    }
}
