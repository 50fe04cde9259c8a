//! Judges the results of the Autobahn test suite: each case must be OK, both in the behavior tested and in how it
//! closes.

use std::fmt;

/// A completed case, in the suite's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CaseResult {
    case: String,
    behaviour: String,
    close: String,
    milliseconds: u64,
    why: String,
}

impl CaseResult {
    /// Reads a line of the fuzzer; returns `None` if it is not a result.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let fields: Vec<_> = line.split('\t').collect();
        let ["result", case, behaviour, close, milliseconds, why] = fields[..] else { return None };
        Some(Self {
            case: case.to_owned(),
            behaviour: behaviour.to_owned(),
            close: close.to_owned(),
            milliseconds: milliseconds.parse().ok()?,
            why: why.to_owned(),
        })
    }
}

impl fmt::Display for CaseResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { case, behaviour, close, milliseconds, why } = self;
        write!(f, "{case}\t{behaviour}\t{close}\t{milliseconds}\t{why}")
    }
}

/// The summary of the results.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    cases: usize,
    ok: usize,
    non_strict: usize,
    informational: usize,
    slowest: Option<(u64, String)>,
    /// The cases that did not pass, a line each, including non-strict ones.
    pub(crate) failed: Vec<String>,
}

/// Cases without a correct answer, which the suite calls INFORMATIONAL for every implementation.
const WITHOUT_ANSWER: &[&str] = &["7.1.6", "7.13.1", "7.13.2"];

/// Judges the results of `cases`.
pub(crate) fn judge(cases: &[String], results: &[CaseResult]) -> Verdict {
    let mut verdict = Verdict { cases: cases.len(), ..Verdict::default() };
    for case in cases {
        let of_case: Vec<_> = results.iter().filter(|result| result.case == *case).collect();
        let [result] = of_case[..] else {
            verdict.failed.push(format!("{case}: {} results, one was due", of_case.len()));
            continue;
        };
        if verdict.slowest.as_ref().is_none_or(|(slowest, _)| result.milliseconds > *slowest) {
            verdict.slowest = Some((result.milliseconds, case.clone()));
        }
        let CaseResult { behaviour, close, why, .. } = result;
        let closes = close == "OK" || close == "INFORMATIONAL";
        match behaviour.as_str() {
            "OK" if closes => verdict.ok += 1,
            "INFORMATIONAL" if closes && WITHOUT_ANSWER.contains(&case.as_str()) => {
                verdict.informational += 1;
            }
            _ => {
                // A pass in the suite's view: the peer was right, but later than it could have been.
                if behaviour == "NON-STRICT" && closes {
                    verdict.non_strict += 1;
                }
                verdict.failed.push(format!("{case}: {behaviour}, close {close}: {why}"));
            }
        }
    }
    verdict
}

impl Verdict {
    /// Returns the reason why the suite has not passed, if it has not.
    pub(crate) fn complaint(&self) -> Option<String> {
        if self.cases == 0 {
            return Some("no case was run".to_owned());
        }
        let some = |count: usize| (count > 0).then(|| format!("{count} of {} cases not OK", self.cases));
        some(self.failed.len())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cases, ok, non_strict, informational, slowest, failed } = self;
        let failed = failed.len() - non_strict;
        write!(
            f,
            "cases {cases} ok {ok} non-strict {non_strict} informational {informational} failed {failed}"
        )?;
        match slowest {
            Some((milliseconds, case)) => write!(f, ", slowest {case} with {milliseconds} ms"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict_of(case: &str, lines: &[&str]) -> Verdict {
        let results: Vec<_> =
            lines.iter().map(|line| CaseResult::parse(&line.replace(' ', "\t")).unwrap()).collect();
        judge(&[case.to_owned()], &results)
    }

    #[test]
    fn a_case_passes_only_when_it_and_its_close_are_ok() {
        for (case, lines, passes) in [
            ("1.1.1", &["result 1.1.1 OK OK 3 fine"][..], true),
            ("1.1.1", &["result 1.1.1 OK INFORMATIONAL 3 fine"], true),
            ("7.1.6", &["result 7.1.6 INFORMATIONAL INFORMATIONAL 3 fine"], true),
            ("7.1.5", &["result 7.1.5 INFORMATIONAL INFORMATIONAL 3 fine"], false),
            ("6.4.1", &["result 6.4.1 NON-STRICT OK 3 late"], false),
            ("1.1.1", &["result 1.1.1 FAILED OK 3 wrong"], false),
            ("1.1.1", &["result 1.1.1 UNIMPLEMENTED OK 3 wrong"], false),
            ("1.1.1", &["result 1.1.1 OK UNCLEAN 3 dropped"], false),
            ("1.1.1", &["result 1.1.1 OK FAILED 3 dropped"], false),
            ("1.1.1", &["result 1.1.1 OK WRONG-CODE 3 dropped"], false),
            ("7.1.6", &["result 7.1.6 INFORMATIONAL FAILED 3 dropped"], false),
            ("1.1.1", &[], false),
            ("1.1.1", &["result 1.1.2 OK OK 3 fine"], false),
            ("1.1.1", &["result 1.1.1 OK OK 3 fine", "result 1.1.1 FAILED OK 3 again"], false),
        ] {
            let verdict = verdict_of(case, lines);
            assert_eq!(verdict.complaint().is_none(), passes, "{case} {lines:?}: {verdict}");
        }
        assert!(judge(&[], &[]).complaint().is_some());
    }

    #[test]
    fn the_counts_add_up() {
        let line = verdict_of("6.4.1", &["result 6.4.1 NON-STRICT OK 2003 late"]).to_string();
        let expected = "cases 1 ok 0 non-strict 1 informational 0 failed 0, slowest 6.4.1 with 2003 ms";
        assert_eq!(line, expected);
        let line = verdict_of("6.4.1", &[]).to_string();
        assert_eq!(line, "cases 1 ok 0 non-strict 0 informational 0 failed 1");
    }
}
