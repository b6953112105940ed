//! Certificates of all kinds, good and bad, through real handshakes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::*;

/// An authority and a server certificate in a folder.
struct Files {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Files {
    fn new(names: &[&str]) -> Files {
        let dir = tempfile::tempdir().unwrap();
        let (authority, own) = Authority::make().unwrap();
        std::fs::write(dir.path().join("ca.pem"), own.certificate).unwrap();
        std::fs::write(dir.path().join("ca.key"), own.key).unwrap();
        let files = Files { dir, authority };
        files.issue(names);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn issue(&self, names: &[&str]) {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let issued = self.authority.issue(&names, 30).unwrap();
        std::fs::write(self.path("server.pem"), issued.certificate).unwrap();
        std::fs::write(self.path("server.key"), issued.key).unwrap();
        std::fs::set_permissions(self.path("server.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn server(&self) -> ServerTls {
        ServerTls::load(&self.path("server.pem"), &self.path("server.key")).unwrap()
    }
}

/// A handshake over memory, then one word each way.
async fn meet(server: &ServerTls, client: ClientConfig, name: &str) -> Result<(), Refusal> {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let acceptor = server.acceptor();
    let serving = tokio::spawn(async move {
        let mut stream = acceptor.accept(theirs).await?;
        let mut word = [0; 4];
        stream.read_exact(&mut word).await?;
        stream.write_all(&word).await?;
        stream.shutdown().await
    });
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let met = async {
        let mut stream = connector.connect(name, ours).await?;
        stream.write_all(b"word").await?;
        let mut word = [0; 4];
        stream.read_exact(&mut word).await?;
        Ok::<_, std::io::Error>(word)
    };
    match met.await {
        Ok(word) => {
            assert_eq!(&word, b"word");
            serving.await.unwrap().unwrap();
            Ok(())
        }
        Err(error) => Err(Refusal::of(&error).expect("a reason of TLS")),
    }
}

#[tokio::test]
async fn a_client_with_the_ca_reaches_every_name_of_the_certificate() {
    let files = Files::new(&["pool.example.org", "10.0.0.5", "::1"]);
    let server = files.server();
    for name in ["pool.example.org", "10.0.0.5", "::1"] {
        let client = client_config(Some(&files.path("ca.pem"))).unwrap();
        assert_eq!(meet(&server, client, name).await, Ok(()), "{name}");
    }
    let client = client_config(Some(&files.path("ca.pem"))).unwrap();
    let refusal = meet(&server, client, "other.example.org").await.unwrap_err();
    let has = ["pool.example.org", "10.0.0.5", "::1"].map(str::to_owned).to_vec();
    assert_eq!(refusal, Refusal::WrongName { asked: "other.example.org".to_owned(), has });
    assert_eq!(
        refusal.to_string(),
        "its certificate is not for other.example.org, but for pool.example.org, 10.0.0.5, ::1"
    );
}

#[tokio::test]
async fn nobody_else_is_trusted() {
    let (files, others) = (Files::new(&["a"]), Files::new(&["a"]));
    let server = files.server();
    for client in
        [client_config(None), client_config_without_roots(), client_config(Some(&others.path("ca.pem")))]
    {
        let refusal = meet(&server, client.unwrap(), "a").await.unwrap_err();
        assert_eq!(refusal, Refusal::UnknownIssuer);
        assert!(refusal.advice().unwrap().contains("--ca FILE"));
    }
}

#[tokio::test]
async fn certificates_outside_of_their_time_are_told_apart() {
    let files = Files::new(&["a"]);
    let key = rcgen::KeyPair::from_pem(&std::fs::read_to_string(files.path("ca.key")).unwrap()).unwrap();
    let ca = std::fs::read_to_string(files.path("ca.pem")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&ca, key).unwrap();
    for (from, until, expected) in [(2001, 2002, Refusal::Expired), (3001, 3002, Refusal::NotYetValid)] {
        let mut params = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let own = rcgen::KeyPair::generate().unwrap();
        std::fs::write(files.path("server.pem"), params.signed_by(&own, &issuer).unwrap().pem()).unwrap();
        std::fs::write(files.path("server.key"), own.serialize_pem()).unwrap();
        let client = client_config(Some(&files.path("ca.pem"))).unwrap();
        assert_eq!(meet(&files.server(), client, "a").await, Err(expected));
    }
}

#[tokio::test]
async fn the_own_server_is_known_under_any_name_and_nobody_else_is() {
    let (files, others) = (Files::new(&["pool.example.org"]), Files::new(&["pool.example.org"]));
    let own = || client_config_for_own_server(&files.path("server.pem")).unwrap();
    assert_eq!(meet(&files.server(), own(), "127.0.0.1").await, Ok(()));
    let refusal = meet(&others.server(), own(), "pool.example.org").await.unwrap_err();
    assert!(refusal.to_string().contains("another certificate"), "{refusal}");
}

#[tokio::test]
async fn who_speaks_no_tls_is_told_apart() {
    let (ours, mut theirs) = tokio::io::duplex(64 << 10);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client_config_without_roots().unwrap()));
    theirs.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let error = connector.connect(ServerName::try_from("a").unwrap(), ours).await.unwrap_err();
    assert_eq!(Refusal::of(&error), Some(Refusal::Plaintext));
    assert_eq!(Refusal::of(&std::io::Error::other("else")), None);
}

#[tokio::test]
async fn changed_files_are_taken_up_and_bad_ones_are_not() {
    let files = Files::new(&["a"]);
    let server = Arc::new(files.server());
    let first = server.certificate();
    let (ask, asked) = mpsc::channel(1);
    let (told, mut reloaded) = mpsc::unbounded_channel();
    let watched = Arc::clone(&server);
    let watching = tokio::spawn(async move {
        watched.watch(asked, |server| told.send(server.certificate()).unwrap()).await;
    });
    files.issue(&["b"]);
    let second = tokio::time::timeout(10 * WATCH_PERIOD, reloaded.recv()).await.expect("in time").unwrap();
    assert_ne!(second, first);
    let client = || client_config(Some(&files.path("ca.pem"))).unwrap();
    assert_eq!(meet(&server, client(), "b").await, Ok(()));

    // a key that does not belong to it: everything stays
    std::fs::write(files.path("server.key"), rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    let error = server.reload().unwrap_err();
    assert!(error.to_string().contains("cannot be used together"), "{error}");
    assert_eq!(meet(&server, client(), "b").await, Ok(()));

    files.issue(&["c"]);
    ask.send(()).await.unwrap();
    let third = tokio::time::timeout(10 * WATCH_PERIOD, reloaded.recv()).await.expect("in time").unwrap();
    assert_ne!(third, second);
    assert_eq!(meet(&server, client(), "c").await, Ok(()));
    drop(ask);
    tokio::time::timeout(10 * WATCH_PERIOD, watching).await.expect("it ends").unwrap();
}

#[test]
fn files_that_cannot_be_used_are_named_with_the_reason() {
    let (files, others) = (Files::new(&["a"]), Files::new(&["a"]));
    let (cert, key, absent) = (files.path("server.pem"), files.path("server.key"), files.path("absent"));
    let junk = files.path("junk.pem");
    std::fs::write(&junk, "no PEM at all").unwrap();
    let broken = files.path("broken.pem");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
    for (cert, key, words) in [
        (&absent, &key, "cannot read the certificate"),
        (&cert, &absent, "cannot read the private key"),
        (&junk, &key, "holds no certificate"),
        (&cert, &junk, "holds no private key"),
        (&cert, &cert, "holds no private key"),
        (&broken, &key, "is damaged"),
        (&cert, &others.path("server.key"), "cannot be used together"),
    ] {
        let error = ServerTls::load(cert, key).unwrap_err().to_string();
        assert!(error.contains(words), "{error} should say {words}");
    }
    let error = client_config(Some(&junk)).unwrap_err().to_string();
    assert!(error.contains("holds no CA certificate"), "{error}");
}

#[test]
fn an_authority_is_taken_up_again_only_as_it_was() {
    let (files, others) = (Files::new(&["a"]), Files::new(&["a"]));
    let load = |ca: PathBuf, key: PathBuf| Authority::load(&ca, &key).map(drop).map_err(|e| e.to_string());
    assert_eq!(load(files.path("ca.pem"), files.path("ca.key")), Ok(()));
    let foreign = load(files.path("ca.pem"), others.path("ca.key")).unwrap_err();
    assert!(foreign.contains("does not belong to the key"), "{foreign}");
    let leaf = load(files.path("server.pem"), files.path("server.key")).unwrap_err();
    assert!(leaf.contains("may not sign"), "{leaf}");
}

#[tokio::test]
async fn what_a_loaded_authority_issues_is_trusted_too() {
    let files = Files::new(&["a"]);
    let again = Authority::load(&files.path("ca.pem"), &files.path("ca.key")).unwrap();
    let issued = again.issue(&["z".to_owned()], 3_650).unwrap();
    std::fs::write(files.path("server.pem"), issued.certificate).unwrap();
    std::fs::write(files.path("server.key"), issued.key).unwrap();
    let client = client_config(Some(&files.path("ca.pem"))).unwrap();
    assert_eq!(meet(&files.server(), client, "z").await, Ok(()));
}
