//! A private certificate authority, for pools that have none: what `lockstep cert` makes.
//!
//! Keys are ECDSA P-256, which every client of today takes. It touches no file but those that it is told to read.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use super::{TlsError, certificates, read};

/// An authority outlives the certificates that it signs by far: replacing it means visiting every client.
const AUTHORITY_DAYS: u32 = 3_650;
/// Valid from a little before now, because clocks differ.
const BACKDATED: Duration = Duration::from_secs(24 * 60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate: public.
    pub certificate: String,
    /// The private key.
    pub key: String,
    /// When it ends, in seconds since the Unix epoch.
    pub not_after_s: u64,
}

/// Who signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    not_after_s: u64,
}

fn refused(error: rcgen::Error) -> TlsError {
    TlsError::Issue { why: error.to_string() }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Sets from when to when a certificate is valid; answers the end.
fn set_validity(params: &mut CertificateParams, days: u32, not_after_max_s: u64) -> u64 {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let end_s = (now_s() + (DAY * days).as_secs()).min(not_after_max_s);
    params.not_before = epoch + Duration::from_secs(now_s()).saturating_sub(BACKDATED);
    params.not_after = epoch + Duration::from_secs(end_s);
    end_s
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

impl Authority {
    /// Makes a new one, with its own certificate and key.
    pub fn make() -> Result<(Authority, Issued), TlsError> {
        let mut tag = [0; 3];
        getrandom::fill(&mut tag).map_err(|error| TlsError::Issue { why: error.to_string() })?;
        let [a, b, c] = tag;
        let mut params = CertificateParams::default();
        // the tag tells the authorities of two pools apart
        params.distinguished_name = named(&format!("Lockstep private CA {a:02x}{b:02x}{c:02x}"));
        // it signs servers, never further authorities
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let not_after_s = set_validity(&mut params, AUTHORITY_DAYS, u64::MAX);
        let key = KeyPair::generate().map_err(refused)?;
        let certificate = params.self_signed(&key).map_err(refused)?;
        let issued = Issued { certificate: certificate.pem(), key: key.serialize_pem(), not_after_s };
        Ok((Authority { issuer: Issuer::new(params, key), not_after_s }, issued))
    }

    /// Takes up one that was made before, here or by other means. Its certificate and key must be a pair.
    pub fn load(certificate: &Path, key: &Path) -> Result<Authority, TlsError> {
        const WHAT: &str = "CA certificate";
        let own = certificates(WHAT, certificate)?.swap_remove(0);
        let text = String::from_utf8_lossy(&read("CA key", key)?).into_owned();
        let damaged = |what, path: &Path, why: String| TlsError::Damaged { what, path: path.to_owned(), why };
        let pair = KeyPair::from_pem(&text).map_err(|error| damaged("CA key", key, error.to_string()))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&own)
            .map_err(|error| damaged(WHAT, certificate, error.to_string()))?;
        if parsed.public_key().subject_public_key.data != pair.public_key_raw() {
            let why = format!("it does not belong to the key `{}`", key.display());
            return Err(damaged(WHAT, certificate, why));
        }
        if !parsed.is_ca() {
            return Err(damaged(WHAT, certificate, "it may not sign other certificates".to_owned()));
        }
        let not_after_s = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        if not_after_s <= now_s() {
            let why =
                "it has expired: make a new CA in another directory, and give it to every client".to_owned();
            return Err(damaged(WHAT, certificate, why));
        }
        let issuer = Issuer::from_ca_cert_der(&own, pair).map_err(refused)?;
        Ok(Authority { issuer, not_after_s })
    }

    /// Issues a server certificate for DNS names and addresses; the first names it for people. Never outlives the authority.
    pub fn issue(&self, names: &[String], days: u32) -> Result<Issued, TlsError> {
        let mut params = CertificateParams::new(names.to_vec()).map_err(refused)?;
        params.distinguished_name = named(names.first().map_or("lockstep", String::as_str));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let not_after_s = set_validity(&mut params, days, self.not_after_s);
        let key = KeyPair::generate().map_err(refused)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(refused)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem(), not_after_s })
    }
}
