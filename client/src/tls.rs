//! How connections are encrypted, and whom they trust.

use std::{fmt, path::Path};

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::Error;

/// TLS (rustls, versions 1.2 and 1.3) for endpoints with `https://`. By default a node's certificate has to be signed by an
/// authority that the system trusts, and has to name the endpoint's host.
///
/// ```no_run
/// # async fn example() -> Result<(), isthmus_client::Error> {
/// use isthmus_client::{Client, Tls};
///
/// let tls = Tls::new()
///     .ca_file("/etc/isthmus/ca.pem")?
///     .client_certificate_files("/etc/isthmus/client.pem", "/etc/isthmus/client.key")?;
/// let client = Client::builder().endpoints(["https://hub.example:7400"]).tls(tls).connect_lazy()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Tls {
    authorities: Vec<Certificate>,
    identity: Option<Identity>,
    domain_name: Option<String>,
}

impl Tls {
    /// The default: the system's authorities, no certificate of the client's own.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the authorities in this file (PEM) and no others. Adds to those given before.
    ///
    /// # Errors
    /// [`Error::Usage`] when it can't be read or holds no certificate.
    pub fn ca_file(self, path: impl AsRef<Path>) -> Result<Self, Error> {
        let pem = read(path.as_ref())?;
        if !holds(&pem, "CERTIFICATE") {
            return Err(Error::Usage(format!("{}: holds no certificate in PEM", path.as_ref().display())));
        }
        Ok(self.ca_pem(pem))
    }

    /// The same, with the file's content. What can't be read as a certificate signs for nobody: no connection comes about.
    pub fn ca_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.authorities.push(Certificate::from_pem(pem));
        self
    }

    /// Shows this certificate, with what it was signed by, to nodes that ask for one (mutual TLS); the second file is its
    /// key. Both are PEM.
    ///
    /// # Errors
    /// [`Error::Usage`] when one can't be read, or isn't what it should be.
    pub fn client_certificate_files(
        self,
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, Error> {
        let (certificate, key) = (certificate.as_ref(), key.as_ref());
        let (certificate_pem, key_pem) = (read(certificate)?, read(key)?);
        for (path, pem, what) in
            [(certificate, &certificate_pem, "CERTIFICATE"), (key, &key_pem, "PRIVATE KEY")]
        {
            if !holds(pem, what) {
                let what = what.to_lowercase();
                return Err(Error::Usage(format!("{}: holds no {what} in PEM", path.display())));
            }
        }
        Ok(self.client_certificate_pem(certificate_pem, key_pem))
    }

    /// The same, with the files' contents.
    pub fn client_certificate_pem(mut self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        self.identity = Some(Identity::from_pem(certificate, key));
        self
    }

    /// The name that nodes' certificates have to bear, instead of the endpoint's host.
    pub fn domain_name(mut self, name: impl Into<String>) -> Self {
        self.domain_name = Some(name.into());
        self
    }

    pub(crate) fn applied_to(self, endpoint: Endpoint) -> Result<Endpoint, Error> {
        let mut config = ClientTlsConfig::new();
        config = match self.authorities.is_empty() {
            true => config.with_native_roots(),
            false => config.ca_certificates(self.authorities),
        };
        if let Some(identity) = self.identity {
            config = config.identity(identity);
        }
        if let Some(name) = self.domain_name {
            config = config.domain_name(name);
        }
        endpoint.tls_config(config).map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            Error::Usage(format!("the TLS options can't be used: {error}: {cause}"))
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| Error::Usage(format!("{}: {error}", path.display())))
}

/// Whether a PEM text holds a section that ends with these words.
fn holds(pem: &[u8], what: &str) -> bool {
    let text = String::from_utf8_lossy(pem);
    text.lines().any(|line| {
        line.trim()
            .strip_prefix("-----BEGIN ")
            .and_then(|rest| rest.strip_suffix("-----"))
            .is_some_and(|label| label.ends_with(what))
    })
}

// Written out, because a key must not show up in logs.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("authorities", &self.authorities.len())
            .field("client_certificate", &self.identity.is_some())
            .field("domain_name", &self.domain_name)
            .finish()
    }
}
