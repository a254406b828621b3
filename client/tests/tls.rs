//! Encrypted connections, against a server with certificates made for the test.

mod common;
#[path = "common/run.rs"]
mod run;

use std::time::Duration;

use common::Fake;
use isthmus_client::{Client, Error, Tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

/// An authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("signed"))
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a name, and its key.
    fn certificate(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.0).expect("signed");
        (certificate.pem(), key.serialize_pem())
    }

    /// A server that shows a certificate for a name.
    fn server(&self, name: &str) -> ServerTlsConfig {
        let (certificate, key) = self.certificate(name);
        ServerTlsConfig::new().identity(Identity::from_pem(certificate, key))
    }
}

fn client(fake: &Fake, tls: Tls) -> Client {
    // Where it can't work it is tried until the deadline.
    let builder = Client::builder().endpoints([fake.endpoint()]).deadline(Duration::from_secs(8));
    builder.tls(tls).connect_lazy().expect("options that fit")
}

async fn works(fake: &Fake, tls: Tls) {
    client(fake, tls).with_deadline(Duration::from_secs(60)).sources().await.expect("answered");
}

async fn is_refused(fake: &Fake, tls: Tls) -> Error {
    let error = client(fake, tls).sources().await.expect_err("whom it can't trust");
    assert_eq!(fake.state().calls.len(), 0, "nothing was sent");
    error
}

#[tokio::test]
async fn a_node_is_trusted_when_the_authority_signed_for_the_host() {
    let authority = Authority::new();
    let fake = Fake::start_tls(authority.server("127.0.0.1"));
    for error in [
        is_refused(&fake, Tls::new().ca_pem(Authority::new().pem())).await,
        is_refused(&fake, Tls::new().ca_pem(authority.pem()).domain_name("hub.example")).await,
    ] {
        let Error::Unreachable(text) = &error else { panic!("{error:?}") };
        assert!(text.contains("certificate"), "it says what is wrong: {text}");
    }
    works(&fake, Tls::new().ca_pem(authority.pem())).await;
}

#[tokio::test]
async fn a_node_may_be_known_by_another_name_than_its_address() {
    let authority = Authority::new();
    let fake = Fake::start_tls(authority.server("hub.example"));
    is_refused(&fake, Tls::new().ca_pem(authority.pem())).await;
    works(&fake, Tls::new().ca_pem(authority.pem()).domain_name("hub.example")).await;
}

#[tokio::test]
async fn a_client_shows_its_certificate_where_one_is_asked_for() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = authority.server("127.0.0.1").client_ca_root(Certificate::from_pem(clients.pem()));
    let fake = Fake::start_tls(server);
    let base = || Tls::new().ca_pem(authority.pem());
    is_refused(&fake, base()).await;
    let (stranger, key) = Authority::new().certificate("client");
    is_refused(&fake, base().client_certificate_pem(stranger, key)).await;
    let (certificate, key) = clients.certificate("client");
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        path
    };
    let (ca, certificate, key) =
        (file("ca.pem", &authority.pem()), file("client.pem", &certificate), file("client.key", &key));
    let tls = Tls::new().ca_file(&ca).expect("a certificate");
    works(&fake, tls.clone().client_certificate_files(&certificate, &key).expect("both")).await;
    // What is not what it should be is told before anything is tried, by the file's name.
    for (wrong, name) in [
        (Tls::new().ca_file(&key), "client.key"),
        (Tls::new().ca_file(folder.path().join("none.pem")), "none.pem"),
        (tls.clone().client_certificate_files(&key, &key), "client.key"),
        (tls.clone().client_certificate_files(&certificate, &ca), "ca.pem"),
    ] {
        let error = wrong.expect_err("not that").to_string();
        assert!(error.contains(name), "{error}");
    }
    assert!(!format!("{tls:?}").contains("BEGIN"), "{tls:?}");
}

#[tokio::test]
async fn an_ingest_stream_is_encrypted_too() {
    let authority = Authority::new();
    let fake = Fake::start_tls(authority.server("127.0.0.1"));
    let client = client(&fake, Tls::new().ca_pem(authority.pem()));
    let writer = client.writer().start().expect("options");
    writer.send(serde_json::json!({"type": "page", "userId": "1"})).await.expect("taken");
    assert_eq!(writer.close().await.expect("acknowledged").counts.accepted, 1);
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused_before_anything_is_sent() {
    let plain = Client::builder().endpoints(["http://127.0.0.1:1"]).tls(Tls::new()).connect_lazy();
    assert!(matches!(plain, Err(Error::Usage(text)) if text.contains("https://")));
    let broken = "-----BEGIN CERTIFICATE-----\nbm90IG9uZQ==\n-----END CERTIFICATE-----\n";
    let tls = Tls::new().ca_pem(Authority::new().pem()).client_certificate_pem(broken, "no key");
    let made = Client::builder().endpoints(["127.0.0.1:1"]).tls(tls).connect_lazy();
    assert!(matches!(made, Err(Error::Usage(_))), "{made:?}");
}

#[test]
fn the_command_line_trusts_whom_it_is_told_to_and_shows_its_certificate() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = authority.server("127.0.0.1").client_ca_root(Certificate::from_pem(clients.pem()));
    let fake = Fake::start_tls(server);
    let (certificate, key) = clients.certificate("client");
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        path.display().to_string()
    };
    let (ca, other) = (file("ca.pem", &authority.pem()), file("other.pem", &Authority::new().pem()));
    let (cert, key) = (file("client.pem", &certificate), file("client.key", &key));
    let endpoint = format!("https://{}", fake.endpoint());
    let ask = |endpoint: &str, args: &[&str]| {
        let call = ["source", "list", "--output", "json", "--timeout", "8s", "--endpoint", endpoint];
        run::run(&[&call, args].concat())
    };
    let all = ["--ca", &ca, "--cert", &cert, "--key", &key];
    let well = ask(&endpoint, &all);
    assert_eq!(well.code, Some(0), "{}", well.stderr);
    assert_eq!(fake.state().calls.len(), 1);
    // Before the verb as behind it.
    assert_eq!(
        run::run(&[&all[..4], &["source", "--endpoint", &endpoint, "list"], &all[4..]].concat()).code,
        Some(0)
    );
    let other = ["--ca", &other, "--cert", &cert, "--key", &key];
    for args in [&["--ca", ca.as_str()][..], &other, &[]] {
        let refused = ask(&endpoint, args);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{args:?}: {}", refused.stderr);
    }
    let plain = fake.endpoint();
    for (endpoint, args, word) in [
        (endpoint.as_str(), &["--ca", ca.as_str(), "--cert", &cert][..], "--key"),
        (&endpoint, &["--key", &key], "--cert"),
        (&endpoint, &["--ca", &key], "client.key"),
        (&endpoint, &["--ca", "none.pem"], "none.pem"),
        (&format!("http://{plain}"), &["--ca", &ca], "https://"),
    ] {
        let wrong = ask(endpoint, args);
        assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(2), ""), "{args:?}: {}", wrong.stderr);
        assert!(wrong.stderr.contains(word), "{args:?}: {}", wrong.stderr);
    }
    assert_eq!(fake.state().calls.len(), 2, "nothing else got through");
}
