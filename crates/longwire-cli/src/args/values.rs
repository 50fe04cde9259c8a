//! Values of options.

use std::str::FromStr;
use std::time::Duration;

/// A header, `Name: value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or("a header has the form 'Name: value'")?;
        Ok(Self { name: name.trim().to_owned(), value: value.trim().to_owned() })
    }
}

/// A cookie, `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cookie {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl FromStr for Cookie {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("a cookie has the form 'name=value'")?;
        Ok(Self { name: name.trim().to_owned(), value: value.trim().to_owned() })
    }
}

/// A user, and a password unless it is to be asked for.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: Option<String>,
}

impl FromStr for Login {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (user, password) = match text.split_once(':') {
            Some((user, password)) => (user, Some(password.to_owned())),
            None => (text, None),
        };
        Ok(Self { user: user.to_owned(), password })
    }
}

impl std::fmt::Debug for Login {
    /// Omits the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Reads a time: a number of seconds, or a number and its unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{unit:?} is none of the units ms, s, m and h")),
    };
    let number: f64 = number.trim().parse().map_err(|_| "a time is a number, such as 2 or 0.5")?;
    match Duration::try_from_secs_f64(number * scale) {
        Ok(time) if time <= MAX_TIME => Ok(time),
        _ => Err("a time is from 0 to 10000 hours".to_owned()),
    }
}

/// Beyond this, adding it to a clock could overflow on some platform.
const MAX_TIME: Duration = Duration::from_hours(10_000);

/// Reads a size: a number of bytes, or a number and its unit.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale: usize = match unit {
        "" | "B" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        _ => return Err(format!("{unit:?} is none of the units k, M and G")),
    };
    let number: usize = number.parse().map_err(|_| "a size is a whole number, such as 100 or 64k")?;
    number.checked_mul(scale).ok_or_else(|| "the size is too large".to_owned())
}

/// Reads a number per second, which may be a fraction.
pub(super) fn positive_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "a rate is a number per second, such as 10 or 0.5")?;
    if (0.0001..=1e9).contains(&rate) {
        Ok(rate)
    } else {
        Err("a rate is from 0.0001 to 1000000000 per second".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, expected) in [
            ("2", Ok(Duration::from_secs(2))),
            ("0.5", Ok(Duration::from_millis(500))),
            ("20ms", Ok(Duration::from_millis(20))),
            ("2m", Ok(Duration::from_mins(2))),
            ("1h", Ok(Duration::from_hours(1))),
            ("", Err(())),
            ("-1", Err(())),
            ("NaN", Err(())),
            ("1e300", Err(())),
            ("1d", Err(())),
        ] {
            assert_eq!(duration(text).map_err(drop), expected, "{text:?}");
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("100", Ok(100)),
            ("64k", Ok(64 << 10)),
            ("16M", Ok(16 << 20)),
            ("1G", Ok(1 << 30)),
            ("", Err(())),
            ("-1", Err(())),
            ("1.5k", Err(())),
            ("99999999999999999999", Err(())),
            ("18446744073709551615k", Err(())),
        ] {
            assert_eq!(size(text).map_err(drop), expected, "{text:?}");
        }
    }

    #[test]
    fn values_are_split_at_the_first_sign() {
        let header: Header = "X-A: b:c ".parse().unwrap();
        assert_eq!((header.name.as_str(), header.value.as_str()), ("X-A", "b:c"));
        let cookie: Cookie = "a=b=c".parse().unwrap();
        assert_eq!((cookie.name.as_str(), cookie.value.as_str()), ("a", "b=c"));
        let login: Login = "user:a:b".parse().unwrap();
        assert_eq!((login.user.as_str(), login.password.as_deref()), ("user", Some("a:b")));
        let login: Login = "user".parse().unwrap();
        assert_eq!((login.user.as_str(), login.password), ("user", None));
        assert!(!format!("{:?}", "user:secret".parse::<Login>().unwrap()).contains("secret"));
    }
}
