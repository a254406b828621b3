//! How a profile is named by people: `user_id:42`, or 32 hexadecimal digits.
//!
//! Only the shape is checked here. The hub normalises an identifier exactly as ingest does, so the client doesn't.

use std::str::FromStr;

use crate::{Error, proto};

/// Any identifier of a customer, or the profile's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProfileKey {
    /// An identifier such as `email:a@b.de`.
    Identifier {
        /// The namespace.
        namespace: String,
        /// The value; may hold colons.
        value: String,
    },
    /// 32 hexadecimal digits.
    ProfileId(String),
}

impl FromStr for ProfileKey {
    type Err = Error;

    /// # Errors
    /// [`Error::Usage`] when it is neither; the message doesn't repeat what was given.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            Some((namespace, value)) if !namespace.trim().is_empty() && !value.trim().is_empty() => {
                Ok(Self::Identifier { namespace: namespace.trim().to_owned(), value: value.to_owned() })
            }
            None if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Ok(Self::ProfileId(text.to_ascii_lowercase()))
            }
            _ => Err(Error::Usage(
                "a profile is named by NAMESPACE:VALUE, such as user_id:42, or by its id of 32 hexadecimal digits".into(),
            )),
        }
    }
}

impl From<ProfileKey> for proto::ProfileKey {
    fn from(key: ProfileKey) -> Self {
        use proto::profile_key::Key;
        let key = match key {
            ProfileKey::Identifier { namespace, value } => {
                Key::Identifier(proto::Identifier { namespace, value })
            }
            ProfileKey::ProfileId(id) => Key::ProfileId(id),
        };
        Self { key: Some(key) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_and_ids_are_told_apart() {
        let identifier = |namespace: &str, value: &str| ProfileKey::Identifier {
            namespace: namespace.into(),
            value: value.into(),
        };
        assert_eq!("user_id:42".parse::<ProfileKey>().unwrap(), identifier("user_id", "42"));
        assert_eq!("urn:a:b".parse::<ProfileKey>().unwrap(), identifier("urn", "a:b"));
        let id = "00112233445566778899AABBCCDDEEFF";
        assert_eq!(id.parse::<ProfileKey>().unwrap(), ProfileKey::ProfileId(id.to_lowercase()));
        for wrong in ["", "42", ":", "user_id:", ":42", "user_id: ", &id[1..]] {
            assert!(wrong.parse::<ProfileKey>().is_err(), "{wrong}");
        }
    }
}
