//! The stand-in for `metrics.rs` without the feature: it discards everything.

use std::time::Duration;

use http::StatusCode;
use longwire_hub::Hub;

pub(crate) fn opened(_: Duration) {}

pub(crate) fn rejected(_: StatusCode) {}

pub(crate) fn report(_: Hub) -> std::future::Pending<()> {
    std::future::pending()
}
