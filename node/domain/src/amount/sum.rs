//! Sums of many amounts: exact as additions one by one are, and brought into the one form of an amount once, at the end.

use bigdecimal::{BigDecimal, num_bigint::BigInt};

use super::{Amount, CENTS, Repr};

/// A sum that is being made.
#[derive(Clone, Debug)]
pub struct Sum {
    /// `mantissa * 10^-scale` is the part that fits.
    mantissa: i128,
    scale: u8,
    /// What didn't.
    rest: Option<Box<BigDecimal>>,
}

impl Default for Sum {
    fn default() -> Self {
        Self { mantissa: 0, scale: CENTS, rest: None }
    }
}

impl Sum {
    /// Adds an amount.
    pub fn add(&mut self, amount: &Amount) {
        match &amount.0 {
            Repr::Small { mantissa, scale } => {
                if self.add_small(*mantissa, *scale).is_none() {
                    self.spill();
                    (self.mantissa, self.scale) = ((*mantissa).into(), *scale);
                }
            }
            Repr::Big(big) => self.add_big(big),
        }
    }

    /// What it comes to.
    pub fn amount(mut self) -> Amount {
        if self.rest.is_none() {
            return Amount::of_wide(self.mantissa, self.scale);
        }
        self.spill();
        Amount::of_big(self.rest.map(|rest| *rest).unwrap_or_default())
    }

    /// Nothing has changed where it doesn't fit.
    fn add_small(&mut self, mantissa: i64, scale: u8) -> Option<()> {
        if scale == self.scale {
            self.mantissa = self.mantissa.checked_add(mantissa.into())?;
        } else if scale < self.scale {
            let more = 10_i128.checked_pow((self.scale - scale).into())?;
            self.mantissa = self.mantissa.checked_add(more.checked_mul(mantissa.into())?)?;
        } else {
            let more = 10_i128.checked_pow((scale - self.scale).into())?;
            self.mantissa = self.mantissa.checked_mul(more)?.checked_add(mantissa.into())?;
            self.scale = scale;
        }
        Some(())
    }

    fn add_big(&mut self, big: &BigDecimal) {
        match &mut self.rest {
            Some(rest) => **rest += big,
            None => self.rest = Some(Box::new(big.clone())),
        }
    }

    /// Puts what fits to what didn't.
    fn spill(&mut self) {
        let part = BigDecimal::new(BigInt::from(self.mantissa), self.scale.into());
        (self.mantissa, self.scale) = (0, CENTS);
        self.add_big(&part);
    }
}
