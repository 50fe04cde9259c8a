//! Errors as sentences: their text, followed by their causes.
//!
//! Used by the errors of all crates and hidden from their documentation. It is here because this is the lowest layer.

use std::error::Error;
use std::fmt;

/// Formats an error followed by its causes, such as `cannot connect to localhost port 1: Connection refused`.
#[derive(Clone, Copy)]
pub struct WithCauses<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Implements `Debug` for error types as [`WithCauses`] formats them: `main` prints the `Debug` form of an error that
/// it returns, and so do `unwrap` and `expect`.
#[doc(hidden)]
#[macro_export]
macro_rules! debug_with_causes {
    ($($error:ty),+ $(,)?) => {$(
        impl ::std::fmt::Debug for $error {
            /// Formats the error followed by its causes.
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(&$crate::causes::WithCauses(self), f)
            }
        }
    )+};
}

#[cfg(test)]
mod tests {
    #[derive(thiserror::Error)]
    enum Fault {
        #[error("cannot read {0}")]
        Outer(&'static str, #[source] Box<Fault>),
        #[error("no such {0}")]
        Inner(&'static str),
        #[error(transparent)]
        Same(Box<Fault>),
    }

    crate::debug_with_causes!(Fault);

    #[test]
    fn shows_each_cause_once() {
        let inner = || Box::new(Fault::Inner("file"));
        let outer = || Box::new(Fault::Outer("a", inner()));
        for (error, text) in [
            (*inner(), "no such file"),
            (*outer(), "cannot read a: no such file"),
            (Fault::Outer("b", outer()), "cannot read b: cannot read a: no such file"),
            (Fault::Same(outer()), "cannot read a: no such file"),
        ] {
            assert_eq!(format!("{error:?}"), text);
            assert_eq!(format!("{:?}", super::WithCauses(&error)), text);
        }
    }
}
