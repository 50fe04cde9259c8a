//! The examples, each run as a reader would run it: builds them, and runs the tests in `xtask/tests/examples`.

use anyhow::Result;

use crate::{
    cargo,
    setup::{self, Install},
};

/// Builds the examples and runs their tests.
pub(crate) fn run(install: Install) -> Result<()> {
    // Here, because tests that run side by side must not install the same thing.
    setup::python(install)?;
    cargo::build_examples()?;
    cargo::test_examples()
}
