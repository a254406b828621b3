//! Phone numbers: E.164 (ITU-T), by Google's tables of numbering plans.

use isthmus_domain::{Identifier, Namespace};
use phonenumber::{Mode, country};

use crate::fault::Fault;

/// The longest text that is looked at: E.164 has 15 digits, and people write separators between them.
const TEXT_BYTES_MAX: usize = 64;

/// Where a number without a country is from.
#[derive(Clone, Copy)]
pub(crate) struct Phone {
    region: Option<country::Id>,
}

impl Phone {
    pub(super) fn of_region(region: Option<&str>, at: &str) -> Result<Self, Fault> {
        let Some(text) = region else { return Ok(Self { region: None }) };
        let known = text.to_ascii_uppercase().parse().map_err(|_| {
            Fault::new(at, format!("{text:?} is no region with phone numbers: name two letters of ISO 3166"))
        })?;
        Ok(Self { region: Some(known) })
    }

    /// The number as E.164, if there is such a number.
    pub(super) fn standardised(self, text: &str) -> Option<String> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        // Spelled as identifiers are: no separators, `+` instead of `00`. Letters would be dialled (`1-800-FLOWERS`),
        // and extensions have no place in E.164: both are left as they are.
        let spelled = Identifier::normalise(Namespace::PHONE, text).ok()?;
        let digits = spelled.value();
        let plain = digits.strip_prefix('+').unwrap_or(digits);
        if plain.is_empty() || !plain.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let number = phonenumber::parse(self.region, digits).ok().filter(phonenumber::is_valid)?;
        Some(number.format().mode(Mode::E164).to_string())
    }
}
