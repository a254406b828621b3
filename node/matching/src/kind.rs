//! Kinds of traits, and all that follows from a kind by default.
//!
//! A kind says how two values are compared, in which blocking keys the trait takes part, and what is expected of
//! matching pairs before any data has been seen ([`Kind::expected`]). The expectations are judgement, not
//! measurement: they start the learning and hold it where the data says little (a first load holds hardly any
//! duplicates); a few dozen matching pairs outweigh them.

use serde::{Deserialize, Serialize};

/// What a trait holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A given, family or full name.
    Name,
    /// A street, a line of an address.
    Address,
    /// A city, suburb or district.
    Place,
    /// A postcode.
    Postcode,
    /// A number that many share: of a house, of a flat.
    Number,
    /// One of few values: a state, a country, a sex.
    Category,
    /// A calendar date, of birth above all.
    Date,
    /// A phone number.
    Phone,
    /// A number or code that is a person's own: a social security or membership number, an e-mail address.
    Code,
    /// Free text: a company, an occupation, a note.
    Text,
}

/// How two values of a kind are compared; see `compare`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// Jaro-Winkler similarity: what people mistype and shorten.
    Name,
    /// Edits relative to the length, and words in common.
    Words,
    /// Edits counted: digits and codes.
    Edits,
    /// Edits counted, leading country codes forgiven.
    Phone,
    /// Edits counted, and year, month and day apart.
    Date,
}

impl Kind {
    /// What a trait's name suggests, in the spellings that analytics SDKs and CRMs use; `None` when it says nothing.
    /// Only the last part of a dotted name counts (`address.city`), and case, `_`, `-` and blanks do not.
    pub fn guess(name: &str) -> Option<Self> {
        let last = name.rsplit('.').next().unwrap_or(name);
        let flat: String =
            last.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        Some(match flat.as_str() {
            "name" | "firstname" | "givenname" | "forename" | "middlename" | "lastname" | "surname"
            | "familyname" | "fullname" => Self::Name,
            "street" | "address" | "address1" | "address2" | "addressline1" | "addressline2"
            | "streetaddress" => Self::Address,
            "city" | "suburb" | "town" | "locality" | "district" => Self::Place,
            "postcode" | "postalcode" | "zip" | "zipcode" => Self::Postcode,
            "streetnumber" | "housenumber" | "flat" | "unit" => Self::Number,
            "state" | "region" | "province" | "country" | "gender" | "sex" | "title" => Self::Category,
            "birthday" | "birthdate" | "dateofbirth" | "dob" => Self::Date,
            "phone" | "phonenumber" | "mobile" | "mobilephone" | "telephone" => Self::Phone,
            "email"
            | "emailaddress"
            | "ssn"
            | "socsecid"
            | "socialsecuritynumber"
            | "nationalid"
            | "taxid"
            | "passport"
            | "passportnumber"
            | "membershipnumber" => Self::Code,
            "company" | "companyname" | "employer" | "occupation" | "jobtitle" | "description" | "notes" => {
                Self::Text
            }
            _ => return None,
        })
    }

    pub(crate) const fn measure(self) -> Measure {
        match self {
            Self::Name => Measure::Name,
            Self::Address | Self::Place | Self::Text => Measure::Words,
            Self::Postcode | Self::Number | Self::Category | Self::Code => Measure::Edits,
            Self::Phone => Measure::Phone,
            Self::Date => Measure::Date,
        }
    }

    /// The similarities from which two values count as close and as similar, for the kinds that measure one.
    pub(crate) const fn thresholds(self) -> (f64, f64) {
        match self.measure() {
            Measure::Name => (0.92, 0.82),
            _ => (0.85, 0.7),
        }
    }

    /// What share of matching pairs is expected at each level: exact, close, similar, swapped, different.
    pub(crate) const fn expected(self) -> [f64; 5] {
        match self {
            Self::Name => [0.80, 0.10, 0.03, 0.01, 0.06],
            Self::Address => [0.75, 0.12, 0.04, 0.01, 0.08],
            Self::Place | Self::Postcode | Self::Number => [0.80, 0.08, 0.02, 0.01, 0.09],
            Self::Category => [0.90, 0.04, 0.01, 0.01, 0.04],
            Self::Date => [0.88, 0.06, 0.03, 0.01, 0.02],
            Self::Phone => [0.75, 0.08, 0.02, 0.01, 0.14],
            Self::Code => [0.88, 0.07, 0.02, 0.01, 0.02],
            Self::Text => [0.60, 0.12, 0.08, 0.01, 0.19],
        }
    }
}
