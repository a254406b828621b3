//! Codes of standards: countries (ISO 3166-1) and currencies (ISO 4217).

use rust_iso3166::{ALL, from_alpha2, from_alpha3, from_numeric};

/// How a country is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CountryForm {
    Alpha2,
    Alpha3,
}

/// The country with this code, letters or number, or with this English short name.
pub(super) fn country(text: &str, form: CountryForm) -> Option<String> {
    let text = text.trim();
    let upper = text.to_ascii_uppercase();
    let found = match text.len() {
        2 => from_alpha2(&upper),
        3 if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok().and_then(from_numeric),
        3 => from_alpha3(&upper),
        _ => {
            let name = text.to_lowercase();
            ALL.iter().find(|country| country.name.to_lowercase() == name).copied()
        }
    }?;
    let code = match form {
        CountryForm::Alpha2 => found.alpha2,
        CountryForm::Alpha3 => found.alpha3,
    };
    Some(code.to_owned())
}

/// The currency's code in upper case.
pub(super) fn currency(text: &str) -> Option<String> {
    let code = text.trim().to_ascii_uppercase();
    iso_currency::Currency::from_code(&code).map(|_| code)
}
