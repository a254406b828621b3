//! URLs that `COPY` may write to, besides the node's own folder: those of folders that all nodes see, and of object stores.
//!
//! What an object store wants to know (keys, region, endpoint) each node takes from its environment, under the names that
//! the store's own programs know: `AWS_…`, `AZURE_…`, `GOOGLE_…`. No statement and no plan between nodes carries it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use object_store::{
    ObjectStore, ObjectStoreScheme, RetryConfig, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder, local::LocalFileSystem, path::Path,
};
use parking_lot::Mutex;
use url::Url;

use crate::error::QueryError;

/// The URLs below which files may be written, and connections to their stores.
#[derive(Default, Debug)]
pub(crate) struct Exports {
    /// Each ends in `/`.
    roots: Vec<Url>,
    /// By scheme and host.
    stores: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl Exports {
    pub(crate) fn below(roots: &[Url]) -> Self {
        Self { roots: roots.to_vec(), stores: Mutex::default() }
    }

    /// The store of a URL, and the place in it.
    ///
    /// # Errors
    /// `Invalid`: this node's operator has not allowed it. `Unavailable`: the settings of the store are not complete.
    pub(crate) fn open(&self, url: &Url) -> Result<(Arc<dyn ObjectStore>, Path), QueryError> {
        if !self.roots.iter().any(|root| is_below(url, root)) {
            let roots: Vec<&str> = self.roots.iter().map(Url::as_str).collect();
            return Err(QueryError::invalid(match roots.is_empty() {
                true => {
                    "COPY writes to no URL on this node: set query.export_urls to those it may write below"
                        .to_owned()
                }
                false => format!("COPY writes below {} only", roots.join(" and ")),
            }));
        }
        let unusable = |error: &dyn std::fmt::Display| {
            QueryError::Unavailable(format!("COPY can't use the store of {url}: {error}"))
        };
        let (scheme, path) = ObjectStoreScheme::parse(url).map_err(|error| unusable(&error))?;
        let name = url[..url::Position::BeforePath].to_owned();
        if let Some(store) = self.stores.lock().get(&name) {
            return Ok((Arc::clone(store), path));
        }
        let store = store(&scheme, &name).map_err(|error| unusable(&error))?;
        self.stores.lock().insert(name, Arc::clone(&store));
        Ok((store, path))
    }
}

/// Why a URL's files can't be written below, if they can't: it has to name a folder of a store that is known.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub fn check_export_url(url: &Url) -> Result<(), String> {
    if !url.path().ends_with('/') || url.query().is_some() || url.fragment().is_some() {
        return Err("must end in /".to_owned());
    }
    if url.password().is_some() {
        return Err("must not carry a password: the environment does".to_owned());
    }
    if url.scheme() != "file"
        && !url.username().is_empty()
        && !url.host_str().unwrap_or_default().contains('.')
    {
        return Err(
            "must name an account as CONTAINER@ACCOUNT.blob.core.windows.net, or leave it to the environment"
                .to_owned(),
        );
    }
    match ObjectStoreScheme::parse(url) {
        Ok((scheme, _)) if is_known(&scheme) && !matches!(url.scheme(), "http" | "https") => Ok(()),
        _ => Err("must begin with file:///, s3://BUCKET, gs://BUCKET or az://CONTAINER".to_owned()),
    }
}

fn is_known(scheme: &ObjectStoreScheme) -> bool {
    use ObjectStoreScheme::{AmazonS3, GoogleCloudStorage, Local, MicrosoftAzure};
    matches!(scheme, Local | AmazonS3 | MicrosoftAzure | GoogleCloudStorage)
}

/// A store of a kind, with what the environment says of it.
fn store(scheme: &ObjectStoreScheme, url: &str) -> object_store::Result<Arc<dyn ObjectStore>> {
    // Whoever asked waits: a store that does not answer is told of in time.
    let retry =
        RetryConfig { max_retries: 5, retry_timeout: Duration::from_secs(30), ..RetryConfig::default() };
    Ok(match scheme {
        ObjectStoreScheme::Local => Arc::new(LocalFileSystem::new()),
        ObjectStoreScheme::AmazonS3 => {
            Arc::new(AmazonS3Builder::from_env().with_url(url).with_retry(retry).build()?)
        }
        ObjectStoreScheme::MicrosoftAzure => {
            Arc::new(MicrosoftAzureBuilder::from_env().with_url(url).with_retry(retry).build()?)
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            Arc::new(GoogleCloudStorageBuilder::from_env().with_url(url).with_retry(retry).build()?)
        }
        other => {
            let source = format!("{other:?} is not written to").into();
            return Err(object_store::Error::Generic { store: "COPY", source });
        }
    })
}

/// Paths of URLs are without `.` and `..` once they are parsed.
fn is_below(url: &Url, root: &Url) -> bool {
    let folder = root.path();
    url[..url::Position::BeforePath] == root[..url::Position::BeforePath]
        && folder.ends_with('/')
        && url.path().len() > folder.len()
        && url.path().starts_with(folder)
        && url.query().is_none()
        && url.fragment().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_store_is_opened_at_the_place_that_a_url_names() {
        let url = |text: &str| Url::parse(text).unwrap();
        let roots =
            ["s3://bucket/hub/", "gs://bucket/hub/", "az://container@account.blob.core.windows.net/hub/"]
                .map(url);
        let exports = Exports::below(&roots);
        for (root, kind) in
            roots.iter().zip(["AmazonS3(bucket)", "GoogleCloudStorage(bucket)", "MicrosoftAzure"])
        {
            let (store, path) = exports.open(&root.join("a/b.csv").unwrap()).unwrap();
            assert!(store.to_string().starts_with(kind), "{store}");
            assert_eq!(path.as_ref(), "hub/a/b.csv");
        }
        // Another bucket, or what lies beside, is not.
        for bad in [
            "s3://other/hub/x.csv",
            "s3://bucket/x.csv",
            "az://container@other.blob.core.windows.net/hub/x.csv",
        ] {
            assert!(matches!(exports.open(&url(bad)), Err(QueryError::Invalid { .. })), "{bad}");
        }
    }

    #[test]
    fn only_what_was_allowed_is_written_to() {
        let url = |text: &str| Url::parse(text).unwrap();
        let exports = Exports::below(&[url("file:///srv/exports/"), url("file:///mnt/hub/")]);
        for good in ["file:///srv/exports/x.csv", "file:///srv/exports/a/b/"] {
            assert!(exports.open(&url(good)).is_ok(), "{good}");
        }
        for bad in [
            "file:///srv/exports/",
            "file:///srv/exports",
            "file:///srv/exportsx/y.csv",
            "file:///srv/exports/../x.csv",
            "file:///srv/exports/%2e%2e/x.csv",
            "file:///etc/x.csv",
            "file:///mnt/x.csv",
            "file:///mnt/hub/x.csv?version=1",
            "file://host/mnt/hub/x.csv",
            "s3://mnt/hub/x.csv",
            "http://localhost/mnt/hub/x.csv",
        ] {
            assert!(matches!(exports.open(&url(bad)), Err(QueryError::Invalid { .. })), "{bad}");
        }
        for (root, wrong) in [
            ("file:///srv/exports", "end in /"),
            ("s3://bucket", "end in /"),
            ("s3://bucket/?x=/", "end in /"),
            ("s3://key:secret@bucket/", "password"),
            ("https://bucket.s3.eu-west-1.amazonaws.com/", "begin with"),
            ("az://container@account/", "ACCOUNT.blob"),
            ("memory:///", "begin with"),
            ("ftp://host/", "begin with"),
        ] {
            assert!(check_export_url(&url(root)).unwrap_err().contains(wrong), "{root}");
        }
        for root in ["file:///srv/", "s3://bucket/", "s3://bucket/a/b/", "gs://bucket/", "az://container/"] {
            assert_eq!(check_export_url(&url(root)), Ok(()), "{root}");
        }
        let none = Exports::default().open(&url("file:///mnt/hub/x.csv")).unwrap_err();
        assert!(none.to_string().contains("query.export_urls"), "{none}");
    }
}
