//! Forms that change something: only from a page of this node.
//!
//! A form has to come with the token that pages of this node hold, which no other page can read, and with an `Origin`,
//! which browsers send with every form and which [`crate::http::local`] has compared with the host by then. The token is
//! made anew when the node starts.

use axum::{
    Form,
    extract::rejection::FormRejection,
    http::{
        HeaderMap, StatusCode,
        header::{LOCATION, ORIGIN, SET_COOKIE},
    },
    response::{IntoResponse as _, Response},
};
use isthmus_console::Theme;
use serde::Deserialize;
use tonic::Code;

use super::{Asked, reply::THEME_COOKIE};
use crate::fault::Refusal;

/// What forms of this node's pages hold; `None` where the system gave no random bytes: then no form is taken.
pub(super) struct FormToken(Option<String>);

impl FormToken {
    /// A token that nobody can guess.
    pub(super) fn new() -> Self {
        let mut bytes = [0; 16];
        let made = getrandom::fill(&mut bytes);
        if let Err(error) = &made {
            tracing::error!(%error, "the console takes no forms: there are no random bytes");
        }
        Self(made.ok().map(|()| format!("{:032x}", u128::from_be_bytes(bytes))))
    }

    /// For pages; empty where there is none.
    pub(super) fn text(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whether it is the token; in as much time whatever is given.
    fn is(&self, given: &str) -> bool {
        let Some(token) = &self.0 else { return false };
        let differ = token.bytes().zip(given.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b));
        differ == 0 && token.len() == given.len()
    }
}

/// What every form brings.
pub(super) trait Tokened {
    /// Its token.
    fn token(&self) -> &str;
}

/// A form, if it is one of this node's.
///
/// # Errors
/// PERMISSION_DENIED `FORM_FOREIGN`; INVALID_ARGUMENT `INVALID_FORM`.
pub(super) fn checked<T: Tokened>(
    token: &FormToken,
    headers: &HeaderMap,
    form: Result<Form<T>, FormRejection>,
) -> Result<T, Refusal> {
    let denied = |message: &str| Refusal::new(Code::PermissionDenied, "FORM_FOREIGN", message);
    if headers.get(ORIGIN).is_none() {
        return Err(denied("this is done from a page of the console only: programs use gRPC or the CLI"));
    }
    let Form(form) = form.map_err(|_| {
        let message = "the form can't be read: it lacks a field, or is larger than 2 MB";
        Refusal::new(Code::InvalidArgument, "INVALID_FORM", message)
    })?;
    if !token.is(form.token()) {
        return Err(denied(
            "the page is older than this node's last start: go back, load it anew, and do it again",
        ));
    }
    Ok(form)
}

/// Light or dark.
#[derive(Debug, Deserialize)]
pub(super) struct ThemeForm {
    token: String,
    theme: String,
    back: String,
}

impl Tokened for ThemeForm {
    fn token(&self) -> &str {
        &self.token
    }
}

/// Keeps the choice in a cookie and goes back.
pub(super) async fn theme(asked: Asked, form: Result<Form<ThemeForm>, FormRejection>) -> Response {
    asked
        .answer(async {
            let form = checked(asked.token(), asked.headers(), form)?;
            let theme = Theme::of_name(&form.theme)
                .ok_or_else(|| Refusal::field("INVALID_THEME", "theme", "must be light, dark or system"))?;
            let cookie =
                format!("{THEME_COOKIE}={}; Path=/; Max-Age=31536000; SameSite=Strict", theme.name());
            let back = if is_path(&form.back) { form.back } else { "/".to_owned() };
            Ok((StatusCode::SEE_OTHER, [(LOCATION, back), (SET_COOKIE, cookie)]).into_response())
        })
        .await
}

/// Whether it is a path of this node: neither of another one (`//host`) nor anything that a header can't hold.
fn is_path(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    text.starts_with('/') && !text.starts_with("//") && plain && text.len() <= 2_048
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_its_nodes_alone() {
        let (one, other) = (FormToken::new(), FormToken::new());
        assert!(one.is(one.text()) && one.text().len() == 32);
        for given in ["", "0", other.text(), &one.text()[..31], &format!("{}0", one.text())] {
            assert!(!one.is(given), "{given}");
        }
        assert!(!FormToken(None).is(""), "without a token no form is taken");
    }

    #[test]
    fn the_way_back_stays_on_this_node() {
        for back in ["/", "/customers?q=a%20b", "/quarantine/00"] {
            assert!(is_path(back), "{back}");
        }
        for back in ["", "//evil.example", "/\\evil.example", "http://evil.example", "/a b", "/\r\nX: y"] {
            assert!(!is_path(back), "{back}");
        }
    }
}
