//! Whom a client trusts.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::{ALPN, TlsError, certificates, provider};

/// Trusts the certificate authorities of this machine's system, and in addition those of the PEM file `ca`.
///
/// For `reqwest` (`tls_backend_preconfigured`) and for `tokio_rustls::TlsConnector`. Reads the system's bundle: some
/// milliseconds. A machine without one trusts `ca` alone.
pub fn client_config(ca: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    // a root of the system that does not parse is trusted by nobody: the others count
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca {
        const WHAT: &str = "CA certificate";
        for certificate in certificates(WHAT, path)? {
            roots.add(certificate).map_err(|error| TlsError::Damaged {
                what: WHAT,
                path: path.to_owned(),
                why: error.to_string(),
            })?;
        }
    }
    trusting(roots)
}

/// Trusts nobody: for clients that speak plain HTTP only, and may not read the system's bundle for nothing.
pub fn client_config_without_roots() -> Result<ClientConfig, TlsError> {
    trusting(RootCertStore::empty())
}

fn trusting(roots: RootCertStore) -> Result<ClientConfig, TlsError> {
    let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// Trusts exactly the server that shows the first certificate of the file `certificate`, under whatever name.
///
/// For a client beside its own server, which left that file in a folder that only its owner can write: such a client
/// reaches it by loopback, a name that a certificate need not have.
pub fn client_config_for_own_server(certificate: &Path) -> Result<ClientConfig, TlsError> {
    let pinned = certificates("certificate", certificate)?.swap_remove(0);
    let provider = provider();
    let verifier = Arc::new(Pinned { pinned, provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// The server shows another certificate than the one that it left in its data folder.
#[derive(Debug, thiserror::Error)]
#[error("it shows another certificate than the server of this data folder")]
pub(super) struct OtherCertificate;

/// Accepts one certificate. The handshake still proves that the server has its key.
#[derive(Debug)]
struct Pinned {
    pinned: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *end_entity == self.pinned {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(OtherCertificate)))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
