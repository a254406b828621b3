//! The files that pages refer to, embedded in the program.
//!
//! A file's path holds a hash of its content, so that it can be kept by a browser for ever: another content has another
//! path. The chart library is uPlot 1.6.32 as it is published, with its licence beside it in `assets/uplot`.

use std::sync::LazyLock;

/// A file.
#[derive(Clone, Debug)]
pub struct Asset {
    /// Where pages find it: `/assets/HASH/NAME`.
    pub path: String,
    /// Its media type.
    pub content_type: &'static str,
    /// Its bytes.
    pub content: &'static [u8],
    /// The hash of its content, for `ETag`: 16 hexadecimal digits.
    pub hash: String,
}

/// All files, by name.
static ASSETS: LazyLock<Vec<(&'static str, Asset)>> = LazyLock::new(|| {
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    const STYLE: &str = "text/css; charset=utf-8";
    let files: [(&str, &str, &[u8]); 5] = [
        ("console.css", STYLE, include_bytes!("../assets/console.css")),
        ("console.js", SCRIPT, include_bytes!("../assets/console.js")),
        ("icon.svg", "image/svg+xml", include_bytes!("../assets/icon.svg")),
        ("uplot.css", STYLE, include_bytes!("../assets/uplot/uPlot.min.css")),
        ("uplot.js", SCRIPT, include_bytes!("../assets/uplot/uPlot.iife.min.js")),
    ];
    let asset = |(name, content_type, content): (&'static str, &'static str, &'static [u8])| {
        let hash = blake3::hash(content).to_hex()[..16].to_owned();
        (name, Asset { path: format!("/assets/{hash}/{name}"), content_type, content, hash })
    };
    files.into_iter().map(asset).collect()
});

/// The file of a path that a page has; `None` where there is none, or none of that content any more.
pub fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().map(|(_, asset)| asset).find(|asset| asset.path == path)
}

/// Where a file is found; empty for a name that there is none of.
pub(crate) fn path(name: &str) -> &'static str {
    ASSETS.iter().find(|(known, _)| *known == name).map_or("", |(_, asset)| asset.path.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_under_its_path_and_no_other() {
        let script = find(path("console.js")).unwrap();
        assert!(script.content_type.starts_with("text/javascript") && !script.content.is_empty());
        assert!(script.path.contains(&script.hash));
        assert!(
            find("/assets/0000000000000000/console.js").is_none() && find("/assets/console.js").is_none()
        );
    }

    #[test]
    fn the_chart_library_comes_with_its_licence() {
        let licence = include_str!("../assets/uplot/LICENSE");
        assert!(licence.contains("MIT License") && licence.contains("Leon Sorokin"));
    }

    #[test]
    fn files_load_nothing_from_elsewhere() {
        for (name, asset) in ASSETS.iter() {
            let text = std::str::from_utf8(asset.content).unwrap();
            for address in text.match_indices("//").map(|(at, _)| &text[at.saturating_sub(6)..]) {
                let known = ["http://www.w3.org/", "https://github.com/leeoniya/uPlot"];
                let loads = address.starts_with("http:") || address.starts_with("https:");
                let fine = known.iter().any(|known| address.contains(known));
                assert!(!loads || fine, "{name}: {:?}", address.chars().take(60).collect::<String>());
            }
        }
    }
}
