//! URLs that `COPY` may write to, besides the node's own folder: those of folders that all nodes see.

use std::{collections::HashMap, sync::Arc};

use object_store::{ObjectStore, ObjectStoreScheme, path::Path};
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
        let (_, path) = ObjectStoreScheme::parse(url).map_err(|error| unusable(&error))?;
        let name = url[..url::Position::BeforePath].to_owned();
        if let Some(store) = self.stores.lock().get(&name) {
            return Ok((Arc::clone(store), path));
        }
        let (store, _) = object_store::parse_url(url).map_err(|error| unusable(&error))?;
        let store: Arc<dyn ObjectStore> = Arc::from(store);
        self.stores.lock().insert(name, Arc::clone(&store));
        Ok((store, path))
    }
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
        let none = Exports::default().open(&url("file:///mnt/hub/x.csv")).unwrap_err();
        assert!(none.to_string().contains("query.export_urls"), "{none}");
    }
}
