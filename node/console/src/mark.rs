//! Isthmus's mark: two shores and the strip of land between them.

use maud::{Markup, html};

/// The mark, for the head of each page. Words beside it say what it is.
pub(crate) fn mark() -> Markup {
    html! {
        svg.mark viewBox="0 0 32 32" width="28" height="28" aria-hidden="true" focusable="false" {
            path d="M3 8c0-3 2.5-5 6-5 4 0 6 2.4 6 5.6 0 3-1.4 4.4-1.4 7.4s1.4 4.400 1.400 7.400C15 26.600 13 29 9 29c-3.500 0-6-2-6-5z" {}
            path d="M29 8c0-3-2.500-5-6-5-4 0-6 2.400-6 5.600 0 3 1.400 4.400 1.400 7.400s-1.400 4.400-1.400 7.400C17 26.600 19 29 23 29c3.500 0 6-2 6-5z" {}
            path.land d="M12 13.500h8v5h-8z" {}
        }
    }
}
