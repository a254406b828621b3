//! Amounts by example, and against `BigDecimal`.

use proptest::prelude::*;
use prost::Message;

use super::*;

#[test]
fn an_amount_has_one_text() {
    for (text, canonical) in [
        ("44.02", "44.02"),
        ("44", "44.00"),
        ("44.0200", "44.02"),
        (" +0044.1 ", "44.10"),
        ("-3.5", "-3.50"),
        ("-0", "0.00"),
        ("0.000", "0.00"),
        ("0e900", "0.00"),
        (".125", "0.125"),
        ("1e3", "1000.00"),
        ("1.25E-2", "0.0125"),
        ("100000000000000000000000000000.01", "100000000000000000000000000000.01"),
    ] {
        let amount: Amount = text.parse().unwrap();
        assert_eq!(amount.to_string(), canonical, "{text}");
        assert_eq!(canonical.parse::<Amount>().unwrap(), amount);
    }
}

#[test]
fn what_is_no_amount_is_refused() {
    use AmountError::*;
    let wide = |n: usize| "9".repeat(n);
    assert!(wide(40).parse::<Amount>().is_ok());
    assert!(format!("0.{}", wide(40)).parse::<Amount>().is_ok());
    for (text, error) in [
        ("", NotDecimal),
        ("-", NotDecimal),
        (".", NotDecimal),
        ("5.", NotDecimal),
        ("1,5", NotDecimal),
        ("1 000", NotDecimal),
        ("$5", NotDecimal),
        ("0x10", NotDecimal),
        ("1e", NotDecimal),
        ("1e+-5", NotDecimal),
        ("NaN", NotDecimal),
        ("1e400", OutOfBounds),
        ("1e99999999999999999999", OutOfBounds),
        ("1e-41", OutOfBounds),
        (&wide(41), OutOfBounds),
        (&wide(500), OutOfBounds),
        (&format!("0.{}", wide(41)), OutOfBounds),
    ] {
        assert_eq!(text.parse::<Amount>(), Err(error), "{text}");
    }
}

#[test]
fn a_json_number_means_its_shortest_text() {
    let of = |v: Value| Amount::of_value(&v).unwrap().unwrap().to_string();
    assert_eq!(of(Value::Float(44.02)), "44.02");
    assert_eq!(of(Value::Float(0.1)), "0.10");
    assert_eq!(of(Value::Float(1e21)), "1000000000000000000000.00");
    assert_eq!(of(Value::Int(-7)), "-7.00");
    assert_eq!(of(Value::UInt(u64::MAX)), "18446744073709551615.00");
    assert_eq!(Amount::of_value(&Value::Null), Ok(None));
    assert_eq!(Amount::of_value(&"  ".into()), Ok(None));
    assert_eq!(Amount::of_value(&Value::Bool(true)), Err(AmountError::NotDecimal));
    assert_eq!(Amount::of_value(&Value::Float(1e300)), Err(AmountError::OutOfBounds));
}

fn amount() -> impl Strategy<Value = Amount> {
    "-?[0-9]{1,25}(\\.[0-9]{1,25})?".prop_map(|t| t.parse().unwrap())
}

fn sum(parts: &[&Amount]) -> Amount {
    let mut total = Amount::zero();
    parts.iter().for_each(|p| total += p);
    total
}

proptest! {
    #[test]
    fn a_sum_does_not_depend_on_order_or_grouping(a in amount(), b in amount(), c in amount()) {
        let left = sum(&[&sum(&[&a, &b]), &c]);
        let right = sum(&[&a, &sum(&[&c, &b])]);
        prop_assert_eq!(&left, &right);
        prop_assert_eq!(left.to_string(), right.to_string());
    }

    #[test]
    fn sums_are_exact(cents in prop::collection::vec(-1_000_000_000_i64..1_000_000_000, 0..50)) {
        let amounts: Vec<Amount> = cents.iter().map(|c| {
            let sign = if *c < 0 { "-" } else { "" };
            format!("{sign}{}.{:02}", c.abs() / 100, c.abs() % 100).parse().unwrap()
        }).collect();
        let total: i64 = cents.iter().sum();
        let sign = if total < 0 { "-" } else { "" };
        let expected = format!("{sign}{}.{:02}", total.abs() / 100, total.abs() % 100);
        prop_assert_eq!(sum(&amounts.iter().collect::<Vec<_>>()).to_string(), expected);
    }

    #[test]
    fn an_amount_is_encoded_and_read_back(a in amount()) {
        prop_assert_eq!(Amount::decode(a.encode_to_vec().as_slice()).unwrap(), a);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[-+0-9.eE ]{0,30}|\\PC{0,10}") {
        if let Ok(amount) = text.parse::<Amount>() {
            prop_assert_eq!(amount.to_string().parse::<Amount>().unwrap(), amount);
        }
    }
}

/// Amounts of every size: cents, long fractions, more digits than fit, and the edges of what fits.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "-?[0-9]{1,7}(\\.[0-9]{1,2})?",
        2 => "-?[0-9]{1,20}(\\.[0-9]{1,20})?",
        1 => "-?[0-9]{1,40}(\\.[0-9]{1,40})?",
        1 => "-?0\\.0{0,38}[0-9]{1,2}",
        1 => "-?9223372036854775[0-9]{3}(\\.0{1,3})?",
        1 => "-?92233720368547758\\.[0-9]{2}",
    ]
}

/// What `BigDecimal` makes of a text, and the canonical text of that.
fn model(text: &str) -> (BigDecimal, String) {
    let number = BigDecimal::from_str(text).unwrap();
    let mut plain = number.normalized().to_plain_string();
    if !plain.contains('.') {
        plain.push('.');
    }
    while plain.split('.').next_back().unwrap().len() < 2 {
        plain.push('0');
    }
    (number, plain)
}

/// Of any size, also such that sums pass what an `i128` holds, and leave it again.
fn any_amount() -> impl Strategy<Value = Amount> {
    let wide = (any::<i128>(), 0..=DIGITS_MAX as i64);
    let small = (any::<i64>(), prop::sample::select(vec![CENTS, 3, 18, 38, 39, 40]));
    prop_oneof![
        2 => (-100_000_i64..100_000).prop_map(|cents| Amount::of_wide(cents.into(), CENTS)),
        2 => small.prop_map(|(mantissa, scale)| Amount::of_wide(mantissa.into(), scale)),
        1 => wide.prop_map(|(mantissa, scale)| Amount::of_big(BigDecimal::new(mantissa.into(), scale))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_sum_of_many_is_what_adding_one_by_one_gives(
        amounts in prop::collection::vec(any_amount(), 0..12),
        taken_back in any::<bool>(),
    ) {
        let mut amounts = amounts;
        if taken_back {
            let negative = |amount: &Amount| Amount::of_big(-amount.to_big());
            amounts.extend(amounts.iter().skip(1).map(negative).collect::<Vec<_>>());
        }
        let (mut one_by_one, mut sum) = (Amount::zero(), Sum::default());
        for amount in &amounts {
            one_by_one += amount;
            sum.add(amount);
            prop_assert_eq!(sum.clone().amount(), one_by_one.clone());
        }
        prop_assert_eq!(sum.amount().to_string(), one_by_one.to_string());
    }

    #[test]
    fn it_is_what_a_big_decimal_is(a in text(), b in text(), c in text()) {
        let numbers = [model(&a), model(&b), model(&c)];
        let amounts = [&a, &b, &c].map(|t| t.parse::<Amount>().unwrap());
        for ((number, text), amount) in numbers.iter().zip(&amounts) {
            prop_assert_eq!(&amount.to_string(), text);
            prop_assert_eq!(amount.text_bytes(), text.len());
            prop_assert_eq!(amount.is_zero(), number.sign() == Sign::NoSign);
            prop_assert_eq!(&Amount::of_stored(text).unwrap(), amount);
            let bytes = amount.encode_to_vec();
            prop_assert_eq!(amount.encoded_len(), bytes.len());
            prop_assert_eq!(&bytes[2..], text.as_bytes());
            prop_assert_eq!(&Amount::decode(bytes.as_slice()).unwrap(), amount);
        }
        for (x, y) in [(0, 1), (1, 2), (0, 0)] {
            prop_assert_eq!(amounts[x].cmp(&amounts[y]), numbers[x].0.cmp(&numbers[y].0));
            prop_assert_eq!(amounts[x] == amounts[y], numbers[x].0 == numbers[y].0);
        }
        let exact = model(&(&numbers[0].0 + &numbers[1].0 + &numbers[2].0).to_plain_string()).1;
        for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0]] {
            let total = sum(&order.map(|i| &amounts[i]));
            prop_assert_eq!(&total.to_string(), &exact);
            // A sum that came through a big one is small again when it fits.
            prop_assert_eq!(&total, &Amount::of_stored(&exact).unwrap());
            prop_assert_eq!(total.clone().max(amounts[0].clone()) >= total, true);
        }
        let mut nothing = amounts[0].clone();
        nothing += &Amount::of_stored(&model(&(-&numbers[0].0).to_plain_string()).1).unwrap();
        prop_assert_eq!(nothing, Amount::zero());
    }

    #[test]
    fn a_stored_text_is_read_as_ever(text in "[-+]?[0-9_]{0,22}\\.?[0-9]{0,42}([eE][-+]?[0-9]{1,2})?") {
        let before = BigDecimal::from_str(&text)
            .ok()
            .filter(|d| (0..=DIGITS_MAX as i64).contains(&d.fractional_digit_count()));
        let read = Amount::of_stored(&text);
        prop_assert_eq!(read.is_some(), before.is_some());
        if let (Some(read), Some(before)) = (read, before) {
            prop_assert_eq!(read.to_big(), before);
        }
    }
}

#[test]
fn the_floor_is_the_whole_number_below() {
    let floor = |text: &str| text.parse::<Amount>().unwrap().floor();
    assert_eq!(floor("3"), Some((3, false)));
    assert_eq!(floor("3.01"), Some((3, true)));
    assert_eq!(floor("-3.01"), Some((-4, true)));
    assert_eq!(floor("0.0000000000000000000000001"), Some((0, true)));
    assert_eq!(floor("-0.0000000000000000000000001"), Some((-1, true)));
    assert_eq!(floor("12345678901234567890"), None);
}

#[test]
fn arithmetic_of_decimals_comes_back_as_an_amount() {
    let n = |text: &str| text.parse::<Amount>().unwrap();
    let back = |text: &str| Amount::of_decimal(n(text).to_decimal());
    for text in ["0", "-3.5", "100000", "0.125", "12345678901234567890.5"] {
        assert_eq!(back(text), Some(n(text)));
    }
    assert_eq!(Amount::of_decimal("1e5".parse().unwrap()), Some(n("100000")));
    assert_eq!(Amount::of_decimal("1e-41".parse().unwrap()), None);
}
