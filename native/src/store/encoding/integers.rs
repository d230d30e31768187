//! Integers of any size, as two's complement in little endian order; and sums of numbers.

use super::{float, int, tag};
use crate::store::{Error, Result};

/// The same number without bytes that say nothing: 0 is none at all.
pub fn shortest(bytes: &[u8]) -> &[u8] {
    let mut len = bytes.len();
    let sign = bytes.last().map_or(0, |last| if last & 0x80 == 0 { 0 } else { 0xff });
    while len > 0 && bytes[len - 1] == sign {
        let rest = len.checked_sub(2).map_or(0, |at| bytes[at]);
        let rest_sign = if rest & 0x80 == 0 { 0 } else { 0xff };
        if rest_sign != sign {
            break;
        }
        len -= 1;
    }
    &bytes[..len]
}

/// The same of a number whose bytes come the other way round.
#[inline]
pub fn shortest_reversed(bytes: &[u8]) -> &[u8] {
    let sign = bytes.first().map_or(0, |first| if first & 0x80 == 0 { 0 } else { 0xff });
    let mut from = 0;
    while from < bytes.len() && bytes[from] == sign {
        let rest = bytes.get(from + 1).copied().unwrap_or(0);
        if (rest & 0x80 == 0) != (sign == 0) {
            break;
        }
        from += 1;
    }
    &bytes[from..]
}

/// The shortest form of a number, the other way round.
pub fn reversed(bytes: &[u8]) -> Vec<u8> {
    let mut all = bytes.to_vec();
    all.reverse();
    shortest_reversed(&all).to_vec()
}

/// The number, if it has at most 64 bits.
pub fn small(bytes: &[u8]) -> Option<i64> {
    let short = shortest(bytes);
    (short.len() <= 8).then(|| {
        let fill = if is_negative(short) { 0xff } else { 0 };
        let mut all = [fill; 8];
        all[..short.len()].copy_from_slice(short);
        i64::from_le_bytes(all)
    })
}

/// The same of a number whose bytes come the other way round, in their shortest form.
#[inline]
pub fn small_reversed(bytes: &[u8]) -> Option<i64> {
    let begin = 8_usize.checked_sub(bytes.len())?;
    let fill = if bytes.first().is_some_and(|first| first & 0x80 != 0) { 0xff } else { 0 };
    let mut all = [fill; 8];
    all[begin..].copy_from_slice(bytes);
    Some(i64::from_be_bytes(all))
}

fn is_negative(bytes: &[u8]) -> bool {
    bytes.last().is_some_and(|last| last & 0x80 != 0)
}

/// An integer as a value.
pub fn value_of(bytes: &[u8]) -> Vec<u8> {
    match small(bytes) {
        Some(number) => int(number).to_vec(),
        None => [&[tag::BIG], shortest(bytes)].concat(),
    }
}

/// What integer a float is, if it is one.
pub fn of_float(number: f64) -> Option<Vec<u8>> {
    if !number.is_finite() || number.trunc() != number {
        return None;
    }
    if number.abs() < 9e18 {
        return Some(shortest(&(number as i64).to_le_bytes()).to_vec());
    }
    let bits = number.to_bits();
    let mantissa = (bits & ((1 << 52) - 1)) | (1 << 52);
    let shift = ((bits >> 52) & 0x7ff) as usize - 1075;
    let mut magnitude = vec![0; shift / 8];
    magnitude.extend_from_slice(&(u128::from(mantissa) << (shift % 8)).to_le_bytes());
    magnitude.push(0);
    if number < 0.0 {
        negate(&mut magnitude);
    }
    Some(shortest(&magnitude).to_vec())
}

fn negate(bytes: &mut [u8]) {
    let mut carry = true;
    for byte in bytes {
        let (sum, more) = (!*byte).overflowing_add(u8::from(carry));
        (*byte, carry) = (sum, more);
    }
}

fn sum_of_integers(a: &[u8], b: &[u8]) -> Vec<u8> {
    let digit = |bytes: &[u8], at: usize| {
        bytes.get(at).copied().unwrap_or(if is_negative(bytes) { 0xff } else { 0 })
    };
    let mut carry = 0;
    let sum: Vec<u8> = (0..=a.len().max(b.len()))
        .map(|at| {
            let sum = u16::from(digit(a, at)) + u16::from(digit(b, at)) + carry;
            carry = sum >> 8;
            sum as u8
        })
        .collect();
    value_of(&sum)
}

/// The nearest float, as `float(number)` has it.
fn nearest(bytes: &[u8]) -> Result<f64> {
    if let Some(number) = small(bytes) {
        return Ok(number as f64);
    }
    let mut magnitude = bytes.to_vec();
    magnitude.push(if is_negative(bytes) { 0xff } else { 0 });
    if is_negative(bytes) {
        negate(&mut magnitude);
    }
    let len = magnitude.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1);
    let low = len.saturating_sub(16);
    let mut top = [0; 16];
    top[..len - low].copy_from_slice(&magnitude[low..len]);
    // What is cut off still decides a tie.
    let sticky = u128::from(magnitude[..low].iter().any(|&byte| byte != 0));
    let size = (u128::from_le_bytes(top) | sticky) as f64 * power_of_two(low * 8);
    if size.is_infinite() {
        return Err(Error::Value("int too large to convert to float".into()));
    }
    Ok(if is_negative(bytes) { -size } else { size })
}

/// The power, or infinity; `powi` need not be exact.
fn power_of_two(exponent: usize) -> f64 {
    if exponent > 1023 {
        return f64::INFINITY;
    }
    f64::from_bits((exponent as u64 + 1023) << 52)
}

enum Number<'a> {
    Small(i64),
    Big(&'a [u8]),
    Float(f64),
}

impl<'a> Number<'a> {
    fn of(value: &'a [u8]) -> Option<Self> {
        let (&first, rest) = value.split_first()?;
        let eight = || rest.try_into().ok();
        match first {
            tag::FALSE => Some(Self::Small(0)),
            tag::TRUE => Some(Self::Small(1)),
            tag::INT => Some(Self::Small(i64::from_le_bytes(eight()?))),
            tag::BIG => Some(Self::Big(rest)),
            tag::FLOAT => Some(Self::Float(f64::from_le_bytes(eight()?))),
            _ => None,
        }
    }

    fn to_float(&self) -> Result<f64> {
        match self {
            Self::Small(number) => Ok(*number as f64),
            Self::Big(bytes) => nearest(bytes),
            Self::Float(number) => Ok(*number),
        }
    }
}

/// Whether a value is a number that one can add to.
pub fn is_number(value: &[u8]) -> bool {
    Number::of(value).is_some()
}

/// The sum of two numbers, as a value.
pub fn sum(a: &[u8], b: &[u8]) -> Result<Vec<u8>> {
    const NO_NUMBER: Error = Error::Type(
        "only int and float can be added to; use a transaction for values of other types",
    );
    let (Some(a), Some(b)) = (Number::of(a), Number::of(b)) else { return Err(NO_NUMBER) };
    match (&a, &b) {
        (Number::Float(_), _) | (_, Number::Float(_)) => {
            Ok(float(a.to_float()? + b.to_float()?).to_vec())
        }
        (Number::Small(a), Number::Small(b)) => match a.checked_add(*b) {
            Some(sum) => Ok(int(sum).to_vec()),
            None => Ok(sum_of_integers(&a.to_le_bytes(), &b.to_le_bytes())),
        },
        (Number::Big(a), Number::Big(b)) => Ok(sum_of_integers(a, b)),
        (Number::Big(big), Number::Small(small)) | (Number::Small(small), Number::Big(big)) => {
            Ok(sum_of_integers(big, &small.to_le_bytes()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_form_says_the_same() {
        for number in [0i64, 1, -1, 127, 128, -128, -129, 255, 256, i64::MAX, i64::MIN] {
            let bytes = number.to_le_bytes();
            assert_eq!(small(shortest(&bytes)), Some(number));
        }
        for number in [0i64, 1, -1, 127, 128, -128, -129, 255, 256, i64::MAX, i64::MIN] {
            let there = shortest_reversed(&number.to_be_bytes()).to_vec();
            assert_eq!(there, reversed(&number.to_le_bytes()));
            let back = there.into_iter().rev().collect::<Vec<_>>();
            assert_eq!(small(&back), Some(number));
        }
        assert!(shortest(&0i64.to_le_bytes()).is_empty());
        assert_eq!(shortest(&(-1i64).to_le_bytes()), [0xff]);
        assert_eq!(shortest(&128i64.to_le_bytes()), [128, 0]);
        assert_eq!(shortest(&[0xff, 0xff, 0x7f, 0, 0]), [0xff, 0xff, 0x7f]);
    }

    #[test]
    fn whole_floats_are_integers() {
        assert_eq!(of_float(0.5), None);
        assert_eq!(of_float(f64::INFINITY), None);
        assert_eq!(of_float(-0.0), Some(vec![]));
        assert_eq!(of_float(-3.0), Some(vec![0xfd]));
        assert_eq!(of_float(power_of_two(64)), Some(vec![0, 0, 0, 0, 0, 0, 0, 0, 1]));
        assert_eq!(of_float(-(power_of_two(64))), Some(vec![0, 0, 0, 0, 0, 0, 0, 0, 0xff]));
        assert_eq!(of_float(power_of_two(71)).map(|bytes| bytes.len()), Some(10));
    }

    #[test]
    fn sums_do_not_overflow() {
        let more = sum(&int(i64::MAX), &int(1)).unwrap();
        assert_eq!(more, [4, 0, 0, 0, 0, 0, 0, 0, 0x80, 0]);
        assert_eq!(sum(&more, &int(-1)).unwrap(), int(i64::MAX));
        assert_eq!(sum(&int(1), &float(0.5)).unwrap(), float(1.5));
        assert_eq!(sum(&more, &float(0.0)).unwrap(), float(power_of_two(63)));
        assert_eq!(sum(&[tag::TRUE], &int(1)).unwrap(), int(2));
        assert!(sum(&[tag::NONE], &int(1)).is_err());
        let low = sum(&int(i64::MIN), &int(-1)).unwrap();
        assert_eq!(sum(&low, &float(0.0)).unwrap(), float(-(power_of_two(63))));
    }
}
