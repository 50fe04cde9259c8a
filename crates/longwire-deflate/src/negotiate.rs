//! From offers to an agreement (RFC 7692 §5.1, §7.1): the server's choice, and the client's check of it.

use crate::{
    Agreement, DeflateOptions, Offer, WindowBits,
    params::{ClientWindow, ParamError, Params},
};

/// Chooses among a client's offers, for a server.
///
/// `offers` are the parameters of each element of `Sec-WebSocket-Extensions` that is named
/// [`EXTENSION_NAME`](crate::EXTENSION_NAME), in the client's order. The first acceptable one is agreed to. An offer
/// that is malformed, or incompatible with `options`, is declined and the next one considered; `None` means that
/// messages are sent uncompressed, which is no reason to refuse the connection (RFC 7692 §5.1).
///
/// # Examples
///
/// ```
/// use longwire_deflate::{DeflateOptions, accept};
///
/// let offers = [
///     vec![("server_max_window_bits", Some("64"))], // malformed
///     vec![("server_max_window_bits", Some("10")), ("client_max_window_bits", None)],
///     vec![],
/// ];
/// let agreement = accept(offers, &DeflateOptions::default()).map(|agreement| agreement.to_string());
/// assert_eq!(agreement.as_deref(), Some("permessage-deflate; server_max_window_bits=10"));
/// ```
pub fn accept<'a, P>(offers: impl IntoIterator<Item = P>, options: &DeflateOptions) -> Option<Agreement>
where
    P: IntoIterator<Item = (&'a str, Option<&'a str>)>,
{
    offers
        .into_iter()
        .filter_map(|params| Offer::parse(params).ok())
        .find_map(|offer| accept_offer(offer, options))
}

fn accept_offer(offer: Offer, options: &DeflateOptions) -> Option<Agreement> {
    let offered = offer.0;
    let server_max_window_bits = match offered.server_max_window_bits {
        // "A server accepts an extension negotiation offer with this parameter by including the
        // 'server_max_window_bits' extension parameter in the extension negotiation response [..] with the same or
        // smaller value" (§7.1.2.1)
        Some(asked) => Some(asked.min(options.server_max_window_bits.max(SMALLEST_TO_SEND))),
        // "A server may include the 'server_max_window_bits' extension parameter in an extension negotiation response
        // even if the extension negotiation offer being accepted [..] doesn't include" it (§7.1.2.1)
        None => restricted(options.server_max_window_bits.max(SMALLEST_TO_SEND)),
    };
    if server_max_window_bits.is_some_and(|bits| bits < SMALLEST_TO_SEND) {
        return None;
    }
    let client_max_window_bits =
        match (offered.client_max_window_bits, restricted(options.client_max_window_bits)) {
            (ClientWindow::Absent | ClientWindow::Any, None) => ClientWindow::Absent,
            // "the server MUST NOT include the 'client_max_window_bits' extension parameter in the extension
            // negotiation response" (§7.1.2.2)
            (ClientWindow::Absent, Some(_)) => return None,
            (ClientWindow::Any, Some(wanted)) => ClientWindow::AtMost(wanted),
            // Repeated even if unchanged, to leave no doubt about it.
            (ClientWindow::AtMost(asked), _) => {
                ClientWindow::AtMost(asked.min(options.client_max_window_bits))
            }
        };
    Some(Agreement::new(Params {
        // Both may appear in an answer without being requested (§7.1.1.1, §7.1.1.2).
        server_no_context_takeover: offered.server_no_context_takeover || options.server_no_context_takeover,
        client_no_context_takeover: offered.client_no_context_takeover || options.client_no_context_takeover,
        server_max_window_bits,
        client_max_window_bits,
    }))
}

/// Checks a server's answer, for a client that sent `offers`.
///
/// `answer` are the parameters of the one element of the response's `Sec-WebSocket-Extensions` that is named
/// [`EXTENSION_NAME`](crate::EXTENSION_NAME); the caller must reject a second such element. The agreement may be
/// narrower than the answer allows: a client that promised a smaller window, or not to use context takeover, keeps to
/// that.
///
/// # Errors
///
/// The connection must be failed (RFC 7692 §5.2, §7.1) unless the answer is one that an offer allows. The error is
/// the reason why the answer does not match the first offer.
pub fn verify<'a>(
    answer: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    offers: &[Offer],
) -> Result<Agreement, AnswerError> {
    let answer = Params::parse_answer(answer)?;
    let mut error = None;
    for &offer in offers {
        match verify_against(answer, offer) {
            Ok(agreement) => return Ok(agreement),
            Err(why) => error = error.or(Some(why)),
        }
    }
    Err(error.unwrap_or(AnswerError::NotOffered))
}

fn verify_against(answer: Params, offer: Offer) -> Result<Agreement, AnswerError> {
    let offered = offer.0;
    if offered.server_no_context_takeover && !answer.server_no_context_takeover {
        return Err(AnswerError::ServerTakeover);
    }
    if let Some(offered) = offered.server_max_window_bits
        && answer.server_max_window_bits.is_none_or(|answered| answered > offered)
    {
        return Err(AnswerError::ServerWindow { offered });
    }
    match (answer.client_window(), offered.client_max_window_bits) {
        (Some(_), ClientWindow::Absent) => return Err(AnswerError::ClientWindowUnasked),
        (Some(answered), ClientWindow::AtMost(offered)) if answered > offered => {
            return Err(AnswerError::ClientWindow { answered, offered });
        }
        _ => {}
    }
    Ok(Agreement::new(Params {
        client_no_context_takeover: answer.client_no_context_takeover || offered.client_no_context_takeover,
        // "even if the server doesn't include the 'client_max_window_bits' extension parameter in the corresponding
        // extension negotiation response, the client is not going to use a larger LZ77 sliding window" (§7.1.2.2)
        client_max_window_bits: answer
            .client_window()
            .or(offered.client_window())
            .map_or(ClientWindow::Absent, ClientWindow::AtMost),
        ..answer
    }))
}

/// An answer to our offers that none of them allows: the connection must be failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// A parameter is unknown or repeated, or has an invalid value.
    #[error(transparent)]
    Param(#[from] ParamError),
    /// Nothing was offered.
    #[error("the server selected permessage-deflate, which was not offered")]
    NotOffered,
    /// The answer lacks `server_no_context_takeover`, which was offered (RFC 7692 §7.1.1.1).
    #[error("the server did not agree to server_no_context_takeover, which was offered")]
    ServerTakeover,
    /// `server_max_window_bits` is absent or larger than offered (RFC 7692 §7.1.2.1).
    #[error("the server did not agree to the server_max_window_bits offered, at most {offered}")]
    ServerWindow {
        /// The value offered.
        offered: WindowBits,
    },
    /// `client_max_window_bits` is larger than offered (RFC 7692 §7.1.2.2).
    #[error("the server selected client_max_window_bits {answered}, more than the {offered} offered")]
    ClientWindow {
        /// The value in the server's answer.
        answered: WindowBits,
        /// The value offered.
        offered: WindowBits,
    },
    /// The answer has `client_max_window_bits`, which was not offered (RFC 7692 §7.1.2.2).
    #[error("the server selected client_max_window_bits, which was not offered")]
    ClientWindowUnasked,
}

fn restricted(bits: WindowBits) -> Option<WindowBits> {
    (bits < WindowBits::MAX).then_some(bits)
}

const SMALLEST_TO_SEND: WindowBits = WindowBits::SMALLEST_TO_SEND;

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `a; b=1, c` the simple way.
    fn elements(header: &str) -> Vec<Vec<(&str, Option<&str>)>> {
        header
            .split(',')
            .map(|element| {
                element
                    .split(';')
                    .map(str::trim)
                    .filter(|param| !param.is_empty())
                    .map(|param| match param.split_once('=') {
                        Some((name, value)) => (name, Some(value)),
                        None => (param, None),
                    })
                    .collect()
            })
            .collect()
    }

    /// Expands the parameters' short names, which keep the rows of the tables on one line.
    fn long(short: &str) -> String {
        short
            .split_inclusive(['=', ';', ','])
            .map(|part| {
                part.replace("sno", "server_no_context_takeover")
                    .replace("cno", "client_no_context_takeover")
                    .replace("smax", "server_max_window_bits")
                    .replace("cmax", "client_max_window_bits")
            })
            .collect()
    }

    fn bits(bits: u8) -> WindowBits {
        WindowBits::new(bits).unwrap()
    }

    fn options(short: &str) -> DeflateOptions {
        let mut options = DeflateOptions::default();
        for (name, value) in elements(short).into_iter().flatten() {
            let window = || bits(value.unwrap().parse().unwrap());
            match name {
                "sno" => options.server_no_context_takeover = true,
                "cno" => options.client_no_context_takeover = true,
                "smax" => options.server_max_window_bits = window(),
                "cmax" => options.client_max_window_bits = window(),
                _ => panic!("{name}"),
            }
        }
        options
    }

    fn answer_to(offers: &str, with: &str) -> Option<String> {
        let offers = long(offers);
        let agreement = accept(elements(&offers), &options(with))?;
        Some(agreement.to_string())
    }

    fn answer(short: &str) -> String {
        let params = long(short);
        if params.is_empty() {
            "permessage-deflate".to_owned()
        } else {
            format!("permessage-deflate; {params}")
        }
    }

    #[test]
    fn a_server_answers_what_was_offered_and_what_it_wants() {
        for (offers, with, expected) in [
            // RFC 7692 §7.1.3
            ("", "", Some("")),
            ("cmax; smax=10", "", Some("smax=10")),
            ("cmax; smax=10, cmax", "smax=11", Some("smax=10")),
            // takeover of the server (§7.1.1.1)
            ("sno", "", Some("sno")),
            ("", "sno", Some("sno")),
            ("sno", "sno", Some("sno")),
            // takeover of the client (§7.1.1.2)
            ("cno", "", Some("cno")),
            ("", "cno", Some("cno")),
            ("cno", "cno", Some("cno")),
            // window of the server (§7.1.2.1)
            ("smax=15", "", Some("smax=15")),
            ("smax=9", "", Some("smax=9")),
            ("smax=9", "smax=12", Some("smax=9")),
            ("smax=12", "smax=9", Some("smax=9")),
            ("", "smax=12", Some("smax=12")),
            // 8 bits, with which the server cannot compress
            ("smax=8", "", None),
            ("smax=8, smax=9", "", Some("smax=9")),
            ("", "smax=8", Some("smax=9")),
            ("smax=12", "smax=8", Some("smax=9")),
            // window of the client (§7.1.2.2)
            ("cmax", "", Some("")),
            ("cmax=10", "", Some("cmax=10")),
            ("cmax=15", "", Some("cmax=15")),
            ("cmax=8", "", Some("cmax=8")),
            ("cmax=10", "cmax=12", Some("cmax=10")),
            ("cmax=12", "cmax=10", Some("cmax=10")),
            ("cmax", "cmax=10", Some("cmax=10")),
            ("cmax", "cmax=8", Some("cmax=8")),
            ("", "cmax=10", None),
            (", cmax", "cmax=10", Some("cmax=10")),
            // all at once
            ("sno; cno; smax=10; cmax=11", "", Some("sno; cno; smax=10; cmax=11")),
            ("cmax", "sno; cno; smax=10; cmax=11", Some("sno; cno; smax=10; cmax=11")),
            // malformed ones are skipped (§7)
            ("foo", "", None),
            ("foo, cmax", "", Some("")),
            ("smax, sno", "", Some("sno")),
            ("smax=16, sno", "", Some("sno")),
            ("cmax=010, sno", "", Some("sno")),
            ("sno; sno, cno", "", Some("cno")),
            ("sno=1, cno", "", Some("cno")),
        ] {
            assert_eq!(answer_to(offers, with), expected.map(answer), "{offers:?} with {with:?}");
        }
        assert_eq!(accept(Vec::<Vec<_>>::new(), &DeflateOptions::default()), None);
    }

    fn check(offers: &str, answer: &str) -> Result<Agreement, AnswerError> {
        let (offers, answer) = (long(offers), long(answer));
        let offers: Vec<_> =
            elements(&offers).into_iter().map(|params| Offer::parse(params).unwrap()).collect();
        verify(elements(&answer).remove(0), &offers)
    }

    #[test]
    fn a_client_takes_only_what_an_offer_allows() {
        let repeated = |name| Err(AnswerError::Param(ParamError::Repeated { name }));
        for (offers, answered, expected) in [
            ("", "", Ok("")),
            // may appear in an answer without being requested (§7.1.1, §7.1.2.1)
            ("", "sno", Ok("sno")),
            ("", "cno", Ok("cno")),
            ("", "smax=8", Ok("smax=8")),
            ("", "smax=15", Ok("smax=15")),
            // a request to the server must be answered
            ("sno", "sno", Ok("sno")),
            ("sno", "", Err(AnswerError::ServerTakeover)),
            ("smax=10", "smax=10", Ok("smax=10")),
            ("smax=10", "smax=9", Ok("smax=9")),
            ("smax=10", "smax=11", Err(AnswerError::ServerWindow { offered: bits(10) })),
            ("smax=10", "", Err(AnswerError::ServerWindow { offered: bits(10) })),
            ("smax=15", "", Err(AnswerError::ServerWindow { offered: bits(15) })),
            // unless a fallback was offered
            ("smax=10, cmax", "", Ok("")),
            ("smax=10; cmax, cmax", "smax=11", Ok("smax=11")),
            ("sno, cmax", "", Ok("")),
            // a hint binds the client, answered or not
            ("cno", "", Ok("cno")),
            ("cno", "cno", Ok("cno")),
            ("cmax=10", "", Ok("cmax=10")),
            ("cmax=10", "cmax=10", Ok("cmax=10")),
            ("cmax=10", "cmax=9", Ok("cmax=9")),
            ("cmax=10", "cmax=11", Err(AnswerError::ClientWindow { answered: bits(11), offered: bits(10) })),
            ("cmax", "cmax=8", Ok("cmax=8")),
            ("cmax", "cmax=15", Ok("cmax=15")),
            ("cmax", "", Ok("")),
            ("", "cmax=15", Err(AnswerError::ClientWindowUnasked)),
            ("smax=10", "smax=10; cmax=10", Err(AnswerError::ClientWindowUnasked)),
            // malformed
            (
                "cmax",
                "cmax",
                Err(AnswerError::Param(ParamError::MissingValue { name: "client_max_window_bits" })),
            ),
            ("cmax", "foo", Err(AnswerError::Param(ParamError::Unknown { name: "foo".to_owned() }))),
            ("cmax", "sno; sno", repeated("server_no_context_takeover").map(|()| "")),
            (
                "cmax",
                "smax=7",
                Err(AnswerError::Param(ParamError::BadValue { name: "server_max_window_bits" })),
            ),
        ] {
            let agreement = check(offers, answered).map(|agreement| agreement.to_string());
            assert_eq!(agreement, expected.map(answer), "{answered:?} to {offers:?}");
        }
        assert_eq!(verify([], &[]), Err(AnswerError::NotOffered));
    }

    #[test]
    fn each_direction_has_its_own_parameters() {
        let agreement = check("sno; smax=10; cmax=12", "sno; smax=9; cmax=11").unwrap();
        assert_eq!(
            agreement.server_to_client(),
            crate::Direction { window_bits: bits(9), context_takeover: false }
        );
        assert_eq!(
            agreement.client_to_server(),
            crate::Direction { window_bits: bits(11), context_takeover: true }
        );
        let agreement = check("cno", "").unwrap();
        assert_eq!(
            agreement.server_to_client(),
            crate::Direction { window_bits: bits(15), context_takeover: true }
        );
        assert_eq!(
            agreement.client_to_server(),
            crate::Direction { window_bits: bits(15), context_takeover: false }
        );
    }

    /// All combinations of the four parameters, as options.
    fn all_options() -> impl Iterator<Item = DeflateOptions> {
        let windows = (8..=15).flat_map(|server| (8..=15).map(move |client| (server, client)));
        windows.flat_map(|(server, client)| {
            (0..8).map(move |flags| {
                DeflateOptions::default()
                    .with_server_no_context_takeover(flags & 1 != 0)
                    .with_client_no_context_takeover(flags & 2 != 0)
                    .with_fallback(flags & 4 != 0)
                    .with_server_max_window_bits(bits(server))
                    .with_client_max_window_bits(bits(client))
            })
        })
    }

    #[test]
    fn our_server_and_our_client_agree_whatever_they_are_set_to() {
        for client in all_options() {
            let offers = client.offers();
            let headers: Vec<_> = offers.iter().map(ToString::to_string).collect();
            let parsed = || headers.iter().map(|header| elements(header).remove(0).split_off(1));
            for server in all_options().filter(|server| server.fallback) {
                let Some(agreement) = accept(parsed(), &server) else {
                    assert!(client.server_max_window_bits.get() == 8 && !client.fallback, "{client:?}");
                    continue;
                };
                let answer = agreement.to_string();
                let seen = verify(elements(&answer).remove(0).split_off(1), &offers).unwrap();
                assert_eq!(seen, agreement, "{client:?} {server:?}");
                let to_client = agreement.server_to_client();
                assert!(to_client.window_bits <= server.server_max_window_bits.max(bits(9)));
                assert!(to_client.window_bits.get() > 8);
                assert!(!(to_client.context_takeover && server.server_no_context_takeover));
                assert!(agreement.client_to_server().window_bits <= server.client_max_window_bits);
                assert!(agreement.client_to_server().window_bits <= client.client_max_window_bits);
            }
        }
    }
}
